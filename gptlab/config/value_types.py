"""Types and bounds of plain values.

A type is a class (`int`), a `Literal`, `list[...]` of a type, a tuple of types (a union), `Bounded`, or `Any`.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from types import NoneType
from typing import Any, Literal, Protocol, get_args, get_origin

NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false", NoneType: "null", list: "a list"}


class Bound(Protocol):
    """A bound of `gptlab.bounds`."""

    def holds(self, value: Any) -> bool:
        """Return whether the value is within the bound."""


@dataclass(frozen=True)
class Bounded:
    """A type whose values have bounds: `Annotated[int, AtLeast(1)]`."""

    type: Any
    bounds: tuple[Bound, ...]


def wanted(value: Any, expected: Any) -> str | None:
    """Return what a value must be, or None if it is.

    The type comes first; bounds are checked only if it fits.
    """
    if not fits(value, expected):
        return type_name(expected)
    return None if _within(value, expected) else _bounds_name(expected)


def fits(value: Any, expected: Any) -> bool:
    """Return whether a value is of a type.

    An int is also a float; bools are neither.
    """
    if expected is Any:
        return True
    if isinstance(expected, Bounded):
        return fits(value, expected.type)
    if get_origin(expected) is Literal:
        return value in get_args(expected)
    if isinstance(expected, tuple):
        return any(fits(value, member) for member in expected)
    if get_origin(expected) is list:
        return isinstance(value, list) and all(fits(item, get_args(expected)[0]) for item in value)
    if isinstance(value, bool):
        return expected is bool
    if expected is float and isinstance(value, int):
        return abs(value) <= sys.float_info.max  # an int of 400 digits does not fit into a float
    return isinstance(value, expected)


def type_name(expected: Any) -> str:
    """Return a type's name for a sentence, without its bounds."""
    if isinstance(expected, Bounded):
        return type_name(expected.type)
    if isinstance(expected, tuple):
        return _either(type_name(member) for member in expected)
    if get_origin(expected) is Literal:
        choices = ", ".join(map(str, get_args(expected)))
        return f"one of {choices}" if "," in choices else choices
    if get_origin(expected) is list:
        return f"a list, each item {type_name(get_args(expected)[0])}"
    return NAMES.get(expected, "a mapping")


def _within(value: Any, expected: Any) -> bool:
    """Return whether a value is within its bounds."""
    if isinstance(expected, tuple):
        return any(fits(value, member) and _within(value, member) for member in expected)
    if isinstance(expected, Bounded):
        return all(bound.holds(value) for bound in expected.bounds) and _within(value, expected.type)
    if get_origin(expected) is list:
        return all(_within(item, get_args(expected)[0]) for item in value)
    return True


def _bounds_name(expected: Any) -> str:
    """Return a type's bounds for a sentence.

    A union's members without bounds appear by their type names.
    """
    if isinstance(expected, tuple):
        return _either(_bounds_name(member) for member in expected if member is not NoneType)
    if get_origin(expected) is list:
        return f"a list, each item {_bounds_name(get_args(expected)[0])}"
    if isinstance(expected, Bounded):
        item = get_args(expected.type)[0] if get_origin(expected.type) is list else None
        items = f", each item {_bounds_name(item)}" if isinstance(item, Bounded) else ""
        return " and ".join(map(str, expected.bounds)) + items
    return type_name(expected)


def _either(names: Iterable[str]) -> str:
    """Join names by "or".

    If the last name contains "or", commas separate all names.
    """
    *others, last = names
    if not others:
        return last
    return ", ".join([*others, last]) if " or " in last else f"{', '.join(others)} or {last}"
