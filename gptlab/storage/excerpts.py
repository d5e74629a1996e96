"""Short excerpts of untrusted values, for messages."""

import reprlib
from collections.abc import Iterable
from itertools import islice
from typing import Any

N_NAMES = 10  # names shown of a list
N_CHARACTERS = 60  # characters shown of a value or name
N_PATH_CHARACTERS = 1000  # of a path, which is of no use if cut

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = N_CHARACTERS


def excerpt(value: Any) -> str:
    """Return at most 60 characters of a value.

    The value may be arbitrarily large or deeply nested.
    """
    try:
        shown = _short.repr(value)
    except ValueError:  # an int with more digits than Python converts
        shown = f"a {type(value).__name__} too long to show"
    return shown if len(shown) <= N_CHARACTERS else f"{shown[: N_CHARACTERS - 3]}..."


def excerpt_names(names: Iterable[Any]) -> str:
    """Return the first ten names as a list for a message."""
    first = [str(name) for name in islice(names, N_NAMES + 1)]
    shown = [name if name.isprintable() and len(name) <= N_CHARACTERS else excerpt(name) for name in first[:N_NAMES]]
    return ", ".join(shown + ["..."] * (len(first) > N_NAMES))


def excerpt_path(path: str) -> str:
    """Return a path as it is, unless it is very long or has control characters."""
    return path if path.isprintable() and len(path) <= N_PATH_CHARACTERS else excerpt(path)
