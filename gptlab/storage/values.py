"""Checks of plain values from untrusted files."""

from typing import Any

from gptlab.errors import UserError

MAX_DEPTH = 64  # limit of nesting
MAX_VALUES = 1_000_000  # limit in total; a tokenizer counts as one string


def check_plain(value: Any) -> None:
    """Raise an error unless a value is plain and small.

    Plain values are None, bools, numbers, strings, lists, and dicts with string keys. Depth and size are
    bounded, because a list that contains itself, or the same list many times at many depths, would never end.

    Raises:
        UserError: the value is not plain, nested more than MAX_DEPTH deep, or has more than MAX_VALUES values.
    """
    left, n_values = [(value, 0)], 0
    while left:
        item, depth = left.pop()
        n_values += 1
        if depth > MAX_DEPTH or n_values > MAX_VALUES:
            raise UserError(f"it is nested more than {MAX_DEPTH} deep, or has more than {MAX_VALUES:,} values")
        if type(item) is dict:
            if any(type(key) is not str for key in item):
                raise UserError("it has a key that is not a string")
            left += [(part, depth + 1) for part in item.values()]
        elif type(item) in (list, tuple):
            left += [(part, depth + 1) for part in item]
        elif item is not None and type(item) not in (bool, int, float, str):
            raise UserError(f"it holds a {type(item).__name__}, which is not a plain value")
        if n_values + len(left) > MAX_VALUES:
            raise UserError(f"it has more than {MAX_VALUES:,} values")
