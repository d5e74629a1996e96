"""The mark of what a configuration may name in a `_target_`."""

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def slot(name: str) -> Callable[[T], T]:
    """Mark a class or function as one that a configuration may name, in this slot only.

    The mark is read from the source text (config/admission.py), so that checking a configuration imports nothing.

    Args:
        name: the configuration key at which it may stand: `optim`, `data.reader`, `callbacks.*`.
    """
    return lambda marked: marked
