"""The split of labelled examples."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from gptlab.data.classification.readers import Example
from gptlab.data.text.split import places_summing_to
from gptlab.errors import UserError, nearest

T = TypeVar("T")


class LabelledSplits(NamedTuple):
    """The examples of each split.

    Without a test set the last is empty.
    """

    train: list[Example]
    val: list[Example]
    test: list[Example]


class SplitConfig(NamedTuple):
    """The held-out fractions, or groups by name."""

    val_fraction: float
    test_fraction: float
    val_groups: list[str] | None
    test_groups: list[str] | None
    seed: int
    stratify: bool  # whether rows without groups are drawn class by class


def undersample(examples: Sequence[Example], seed: int) -> list[Example]:
    """Cut every class to the size of the smallest.

    The classes come one after another, sorted by name. As in the book (chapter 6), larger classes are sampled by
    pandas' `sample(n, random_state=seed)`; the smallest stays complete.
    """
    of_class = defaultdict(list)
    for example in examples:
        of_class[example.label].append(example)
    n = min(map(len, of_class.values()))
    return [
        example
        for _, members in sorted(of_class.items())
        for example in (members if len(members) == n else _sampled(members, n, seed))
    ]


def split_examples(examples: Sequence[Example], wanted: SplitConfig) -> LabelledSplits:
    """Split examples by groups if they have any, else by rows.

    Raises:
        UserError: a named group does not exist, or the fractions leave nothing to train on.
    """
    if wanted.val_fraction + wanted.test_fraction >= 1:
        raise UserError(
            f"data.val_fraction={wanted.val_fraction} and data.test_fraction={wanted.test_fraction} leave nothing to "
            "train on: together they must be less than 1"
        )
    if any(example.group is not None for example in examples):
        return _split_groups(examples, wanted)
    if wanted.val_groups or wanted.test_groups:
        raise UserError(
            "data.val_groups and data.test_groups name groups, but no row has one: give their column with "
            "data.reader.group_field"
        )
    return _split_rows(examples, wanted)


def _sampled(members: Sequence[T], n: int, seed: int) -> list[T]:
    """Draw n members as pandas' `sample(n, random_state=seed)` does."""
    return [members[i] for i in np.random.RandomState(seed).choice(len(members), size=n, replace=False)]


def _split_rows(examples: Sequence[Example], wanted: SplitConfig) -> LabelledSplits:
    """Split the rows in random order, each class in equal shares if wanted."""
    order = _sampled(examples, len(examples), wanted.seed)
    if wanted.stratify:
        order = _mixed(order)
    train_end = int(len(order) * (1 - wanted.val_fraction - wanted.test_fraction))
    val_end = train_end + int(len(order) * wanted.val_fraction) if wanted.test_fraction else len(order)
    return LabelledSplits(order[:train_end], order[train_end:val_end], order[val_end:])


def _mixed(order: Sequence[Example]) -> list[Example]:
    """Spread each class evenly over the order.

    Row k of a class with n rows comes after (k + 1/2) / n of all rows. A single row thus comes halfway, so that its
    class is in the training set.
    """
    n_of, n_before = Counter(example.label for example in order), Counter[str]()
    places = []
    for example in order:
        places.append((n_before[example.label] + 0.5) / n_of[example.label])
        n_before[example.label] += 1
    return [order[i] for i in np.argsort(places, kind="stable")]


def _split_groups(examples: Sequence[Example], wanted: SplitConfig) -> LabelledSplits:
    """Split by named groups, or by groups drawn at random.

    Drawn groups hold about the fractions of each class.
    """
    sizes = Counter(str(example.group) for example in examples)
    if wanted.test_groups is None:
        test = _drawn(examples, sizes, wanted.test_fraction, wanted.seed, but=())
    else:
        test = _checked(wanted.test_groups, sizes, "test", but=())
    if wanted.val_groups is None:
        val = _drawn(examples, sizes, wanted.val_fraction, wanted.seed, but=test)
    else:
        val = _checked(wanted.val_groups, sizes, "val", but=test)
    splits = LabelledSplits([], [], [])
    for example in examples:
        (splits.test if example.group in test else splits.val if example.group in val else splits.train).append(example)
    return splits


def _checked(named: list[str], known: Iterable[str], split: str, *, but: Sequence[str]) -> list[str]:
    """Check that named groups exist and are not held out."""
    for name in named:
        if name in but:
            raise UserError(f"data.{split}_groups: {name!r} is in the test set already: name it for one split only")
        if name not in known:
            hint = nearest(name, known, n_most=3)
            raise UserError(f"data.{split}_groups: the data has no group {name!r}{hint}")
    return named


def _drawn(
    examples: Sequence[Example], sizes: dict[str, int], fraction: float, seed: int, *, but: Sequence[str]
) -> list[str]:
    """Draw groups with about this fraction of each class."""
    counts = Counter((str(example.group), example.label) for example in examples)
    label_of = {group: label for (group, label), _ in reversed(counts.most_common())}  # of most examples in the group
    drawn: list[str] = []
    for label in sorted(set(label_of.values())):
        groups = [group for group in sorted(sizes) if label_of[group] == label]
        left = [group for group in _sampled(groups, len(groups), seed) if group not in but]
        wanted = fraction * sum(sizes[group] for group in groups)
        drawn += (
            [left[i] for i in places_summing_to([sizes[group] for group in left], wanted)] if wanted and left else []
        )
    return drawn
