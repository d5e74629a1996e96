"""Plain values in a file that may come from anybody: a tree of bounded size, and nothing else."""

from typing import Any

from gptlab.errors import UserError

MAX_DEPTH = 64
MAX_VALUES = 1_000_000  # a tokenizer is one text


def check_plain(value: Any) -> None:
    """Check that a value is a tree of None, bools, numbers, texts, lists and dicts with text keys.

    A list that holds itself, or the same list a thousand times over and over, has no end to whoever walks through it.

    Raises:
        UserError: it is something else, nested more than MAX_DEPTH deep, or has more than MAX_VALUES values.
    """
    left, n_values = [(value, 0)], 0
    while left:
        item, depth = left.pop()
        n_values += 1
        if depth > MAX_DEPTH or n_values > MAX_VALUES:
            raise UserError(f"it is nested more than {MAX_DEPTH} deep, or has more than {MAX_VALUES:,} values")
        if type(item) is dict:
            if any(type(key) is not str for key in item):
                raise UserError("it has a key that is no text")
            left += [(part, depth + 1) for part in item.values()]
        elif type(item) in (list, tuple):
            left += [(part, depth + 1) for part in item]
        elif item is not None and type(item) not in (bool, int, float, str):
            raise UserError(f"it holds a {type(item).__name__}, which is no plain value")
        if n_values + len(left) > MAX_VALUES:
            raise UserError(f"it has more than {MAX_VALUES:,} values")
