"""The classes of labelled texts: their choice and order, and warnings about them."""

import logging
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

from gptlab.data.classification.readers import Example
from gptlab.errors import UserError, nearest
from gptlab.storage.excerpts import excerpt, excerpt_names

WHOLE_NUMBER = re.compile("-?[0-9]{1,18}")

log = logging.getLogger(__name__)


def sort_classes(names: Iterable[str]) -> list[str]:
    """Return class names in order: whole numbers by value, then the others by name."""

    def place(name: str) -> tuple[bool, int, str]:
        number = WHOLE_NUMBER.fullmatch(name)
        return (False, int(name), name) if number else (True, 0, name)

    return sorted(names, key=place)


def choose_classes(chosen: Sequence[str] | None, examples: Iterable[Example], trained: Collection[str]) -> list[str]:
    """Return the C classes in order.

    Args:
        chosen: the classes that the configuration names; None is all that occur.
        examples: training rows and held-out rows.
        trained: the labels of the training rows.

    Raises:
        UserError: a chosen class does not occur, or a class has no training row.
    """
    labels = [example.label for example in examples]
    occurring = sort_classes(set(labels))
    classes = occurring if chosen is None else list(chosen)
    if absent := [name for name in classes if name not in occurring]:
        raise UserError(
            f"data.classes names {excerpt_names(absent)}, which no row of data.path has as its "
            f"label{nearest(absent[0], occurring)}; those that occur are {excerpt_names(occurring)}: correct "
            "data.classes, or leave it out for all of them"
        )
    if idle := [name for name in classes if name not in trained]:
        many = len(occurring) > len(labels) / 2
        raise UserError(
            f"class {excerpt(idle[0])} has no training row ({labels.count(idle[0]):,} held out); the classes with "
            f"training rows are {excerpt_names(sort_classes(trained))}: "
            + (
                f"with {len(occurring):,} classes in {len(labels):,} rows, does data.reader.label_field name the right "
                "column?"
                if many
                else "give more rows of it, or change data.classes or data.split_seed"
            )
        )
    return classes


def warn_of_labels(examples: Iterable[Example]) -> None:
    """Warn of classes that look like one, and of texts with several labels."""
    labels_of, names_of = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
    for example in examples:
        labels_of[example.text].add(example.label)
        names_of[" ".join(example.label.casefold().split())].add(example.label)
    for alike in names_of.values():
        if len(alike) > 1:
            log.warning(
                f"the classes {excerpt_names(sort_classes(alike))} differ in case or blanks only: are they one?"
            )
    several = {text: labels for text, labels in labels_of.items() if len(labels) > 1}
    if several:
        text, labels = next(iter(several.items()))
        log.warning(
            f"{len(several):,} of {len(labels_of):,} different texts have more than one label, such as "
            f"{excerpt(text)}: {excerpt_names(sort_classes(labels))}"
        )
