"""Bounds of a value, for the annotation of the argument that takes it: `batch_size: Annotated[int, AtLeast(1)]`.

`config/check.py` reads them from the source text, so a value out of bounds is reported before anything is built. They
hold for a user's own parts too.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class AtLeast:
    """Allow numbers from `least` on."""

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
    """Allow numbers up to `most`."""

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
    """Allow lists of `least` to `most` items; None is any number from `least` on."""

    least: int
    most: int | None

    def __str__(self) -> str:
        if self.most is None:
            return f"a list of {self.least} or more"
        return f"a list of {self.least}" + ("" if self.most == self.least else f" to {self.most}")

    def holds(self, value: Any) -> bool:
        """Return whether the list is of a length within the bound."""
        return self.least <= len(value) and (self.most is None or len(value) <= self.most)
