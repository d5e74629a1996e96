"""Bounds of an argument's values.

A bound is part of the annotation, `batch_size: Annotated[int, AtLeast(1)]`. `config/check.py` reads it from the source
text and reports a value out of bounds before anything is built. A user's own classes may use literal numbers.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class AtLeast:
    """Allow `least` and larger numbers."""

    least: float

    def __str__(self) -> str:
        return f"at least {self.least:,}"

    def holds(self, value: float) -> bool:
        """Return whether the value is within the bound."""
        return value >= self.least


@dataclass(frozen=True)
class MoreThan:
    """Allow numbers above `bound`."""

    bound: float

    def __str__(self) -> str:
        return f"more than {self.bound:,}"

    def holds(self, value: float) -> bool:
        """Return whether the value is within the bound."""
        return value > self.bound


@dataclass(frozen=True)
class AtMost:
    """Allow `most` and smaller numbers."""

    most: float

    def __str__(self) -> str:
        return f"at most {self.most:,}"

    def holds(self, value: float) -> bool:
        """Return whether the value is within the bound."""
        return value <= self.most


@dataclass(frozen=True)
class LessThan:
    """Allow numbers below `bound`."""

    bound: float

    def __str__(self) -> str:
        return f"less than {self.bound:,}"

    def holds(self, value: float) -> bool:
        """Return whether the value is within the bound."""
        return value < self.bound


@dataclass(frozen=True)
class Length:
    """Allow lists of `least` to `most` items.

    Args:
        most: None allows any number.
    """

    least: int
    most: int | None

    def __str__(self) -> str:
        if self.most is None:
            return f"a list of at least {self.least}"
        return f"a list of {self.least}" + ("" if self.most == self.least else f" to {self.most}")

    def holds(self, value: Any) -> bool:
        """Return whether the list's length is within the bound."""
        return self.least <= len(value) and (self.most is None or len(value) <= self.most)
