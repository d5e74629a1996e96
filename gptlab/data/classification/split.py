"""Which labelled examples are learned from, which watched, and which looked at once.   n examples, C classes."""

import difflib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from gptlab.data.classification.readers import Example
from gptlab.data.text.split import adding_up
from gptlab.errors import UserError

T = TypeVar("T")


class LabelledSplits(NamedTuple):
    """The three sides of a split; without a test part the last is empty."""

    train: list[Example]
    val: list[Example]
    test: list[Example]


class SplitConfig(NamedTuple):
    """How much is held out, or which groups by name."""

    val_fraction: float
    test_fraction: float
    val_groups: list[str] | None
    test_groups: list[str] | None
    seed: int


def undersampled(examples: Sequence[Example], seed: int) -> list[Example]:
    """Every class cut to the size of the smallest, class after class in the order of their names.

    As the book does it with pandas (chapter 6): `sample(n, random_state=seed)` of a larger class, a smallest as it is.
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
    """Groups whole where examples have any, else row by row.

    Raises:
        UserError: groups are named that are not there; the fractions leave nothing to train on.
    """
    if wanted.val_fraction + wanted.test_fraction >= 1:
        raise UserError(
            f"data.val_fraction={wanted.val_fraction} and data.test_fraction={wanted.test_fraction} leave nothing to "
            "train on: together they must be less than 1."
        )
    if any(example.group is not None for example in examples):
        return _divide_groups(examples, wanted)
    if wanted.val_groups or wanted.test_groups:
        raise UserError(
            "data.val_groups and data.test_groups name groups, but no row has one: say with data.reader.group_field "
            "which column holds them."
        )
    return _divide_rows(examples, wanted)


def _sampled(members: Sequence[T], n: int, seed: int) -> list[T]:
    """What pandas' `sample(n, random_state=seed)` takes, in its order."""
    return [members[i] for i in np.random.RandomState(seed).choice(len(members), size=n, replace=False)]


def _divide_rows(examples: Sequence[Example], wanted: SplitConfig) -> LabelledSplits:
    """In an order of chance the first are learned from, the next watched, the last tested; the book's, row by row."""
    order = _sampled(examples, len(examples), wanted.seed)
    train_end = int(len(order) * (1 - wanted.val_fraction - wanted.test_fraction))
    val_end = train_end + int(len(order) * wanted.val_fraction) if wanted.test_fraction else len(order)
    return LabelledSplits(order[:train_end], order[train_end:val_end], order[val_end:])


def _divide_groups(examples: Sequence[Example], wanted: SplitConfig) -> LabelledSplits:
    """The groups that are named; where none are, about these fractions of each class's examples, drawn by the seed."""
    sizes = Counter(str(example.group) for example in examples)
    if wanted.test_groups is None:
        test = _drawn(examples, sizes, wanted.test_fraction, wanted.seed, but=())
    else:
        test = _checked(wanted.test_groups, sizes, "test", but=())
    if wanted.val_groups is None:
        val = _drawn(examples, sizes, wanted.val_fraction, wanted.seed, but=test)
    else:
        val = _checked(wanted.val_groups, sizes, "val", but=test)
    parts = LabelledSplits([], [], [])
    for example in examples:
        (parts.test if example.group in test else parts.val if example.group in val else parts.train).append(example)
    return parts


def _checked(named: list[str], known: Iterable[str], part: str, *, but: Sequence[str]) -> list[str]:
    """The groups that are named."""
    for name in named:
        if name in but:
            raise UserError(f"data.{part}_groups: {name!r} is held out for the test: it cannot be both.")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise UserError(f"data.{part}_groups: the data has no group {name!r}.{hint}")
    return named


def _drawn(
    examples: Sequence[Example], sizes: dict[str, int], fraction: float, seed: int, *, but: Sequence[str]
) -> list[str]:
    """Groups of each class in an order of chance, until they hold about this fraction of its examples."""
    counts = Counter((str(example.group), example.label) for example in examples)
    label_of = {group: label for (group, label), _ in reversed(counts.most_common())}  # that of most of its examples
    drawn: list[str] = []
    for label in sorted(set(label_of.values())):
        groups = [group for group in sorted(sizes) if label_of[group] == label]
        left = [group for group in _sampled(groups, len(groups), seed) if group not in but]
        wanted = fraction * sum(sizes[group] for group in groups)
        drawn += [left[i] for i in adding_up([sizes[group] for group in left], wanted)] if wanted and left else []
    return drawn
