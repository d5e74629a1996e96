"""Short forms of long values, in which different values stay different."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len, set_cell_size

ELLIPSIS = "…"
EXACT_DIGITS = 5  # of a number that somebody typed; one with more was drawn at random
FEWEST_DIGITS = 3


def show_value(value: Any, digits: int = FEWEST_DIGITS) -> str:
    """Return a key's value as text on one line.

    Args:
        digits: of a number that has more than five.
    """
    if isinstance(value, float):
        short = f"{value:.{EXACT_DIGITS}g}"
        return short if float(short) == value else f"{value:.{digits}g}"
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def show_values(values: Sequence[Any]) -> list[str]:
    """Return values as texts, numbers with as few digits as tell them apart."""
    n_distinct = len(set(map(repr, values)))
    for digits in range(FEWEST_DIGITS, 18):
        texts = [show_value(value, digits) for value in values]
        if len(set(texts)) >= n_distinct:
            break
    return texts


def short_keys(keys: Sequence[str]) -> list[str]:
    """Return the last word of each key, or the whole key where two would be alike."""
    last = [key.rpartition(".")[2] for key in keys]
    return [key if last.count(word) > 1 else word for key, word in zip(keys, last, strict=True)]


def shorten_column(texts: Sequence[str], width: int) -> list[str]:
    """Return the texts, each of at most `width` columns.

    Of a path the last parts are kept, of anything else both ends. Where different texts would become alike, what
    differs between them is kept, and at last a number is added.
    """
    short = {text: shorten(text, width) for text in texts}
    for way in (_what_differs, _ends_apart):
        for alike in _clashes(short):
            short |= way(alike, width)
    numbered = [text for alike in _clashes(short) for text in alike]
    short |= {text: f"{_ends(text, width - len(f'#{n}'))}#{n}" for n, text in enumerate(numbered, 1)}
    return [short[text] for text in texts]


def shorten(text: str, width: int) -> str:
    """Return a text of at most `width` columns: the last parts of a path, both ends of anything else."""
    if cell_len(text) <= width:
        return text
    return _last_parts(text, width) if "/" in text and " " not in text else _ends(text, width)


def _clashes(short: Mapping[str, str]) -> list[list[str]]:
    """Return the texts that have one short form, for each such form."""
    found: dict[str, list[str]] = {}
    for text, form in short.items():
        found.setdefault(form, []).append(text)
    return [texts for texts in found.values() if len(texts) > 1]


def _what_differs(texts: Sequence[str], width: int) -> dict[str, str]:
    """Return the words in which texts differ, with the marks of what is left out around them."""
    words = {text: re.findall(r"[^/,\s]*[/,\s]*", text) for text in texts}
    start = _n_shared(list(words.values()))
    end = _n_shared([each[start:][::-1] for each in words.values()])
    short = {}
    for text, each in words.items():
        middle = "".join(each[start : len(each) - end]).rstrip("/, ")
        before = ELLIPSIS + ("/" if "/" in text else "") if start else ""
        after = ("/" if "/" in text else "") + ELLIPSIS if end else ""
        short[text] = before + _ends(middle, max(3, width - len(before) - len(after))) + after
    return short if all(cell_len(form) <= width for form in short.values()) else {}


def _ends_apart(texts: Sequence[str], width: int) -> dict[str, str]:
    """Return the signs in which texts differ, as many as fit."""
    start, end = _n_shared(texts), _n_shared([text[::-1] for text in texts])
    first = max(0, start - 1)
    short = {text: (ELLIPSIS if first else "") + text[first : max(len(text) - end, start + 1)] for text in texts}
    return {text: form if cell_len(form) <= width else _ends(form, width) for text, form in short.items()}


def _n_shared(rows: Sequence[Sequence[str]]) -> int:
    """Return how many first items all rows share."""
    shortest = min(map(len, rows))
    return next((n for n in range(shortest) if len({row[n] for row in rows}) > 1), shortest)


def _last_parts(path: str, width: int) -> str:
    """Return as many of a path's last parts as fit."""
    parts = path.split("/")
    for first in range(1, len(parts)):
        short = "/".join([ELLIPSIS, *parts[first:]])
        if cell_len(short) <= width:
            return short
    return _ends(parts[-1] or path, width)


def _ends(text: str, width: int) -> str:
    """Return both ends of a text, the beginning one longer."""
    if cell_len(text) <= width:
        return text
    if width < 3:
        return _cut(text, max(width, 1))
    tail = (width - 1) // 2
    return _cut(text, width - 1 - tail) + ELLIPSIS + _cut(text[::-1], tail)[::-1]


def _cut(text: str, width: int) -> str:
    """Return the beginning of a text, without the half of a wide character."""
    return set_cell_size(text, width).rstrip(" ") if width > 0 else ""
