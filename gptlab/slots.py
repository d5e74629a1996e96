"""The mark of classes and functions that a configuration may name."""

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def slot(name: str) -> Callable[[T], T]:
    """Mark a class or function as a `_target_` for one slot.

    A configuration may name it there and nowhere else. The mark is read from the source text (config/admission.py), so
    that checking a configuration imports nothing.

    Args:
        name: the configuration key at which it may stand: `optim`, `data.reader`, `callbacks.*`.
    """
    return lambda marked: marked
