"""Cleaning: pure functions on text, then filters on whole documents.

The functions are local: on the pieces of `pieces.py`, one by one, they give what they would give on the whole text.
"""

import difflib
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from gptlab.errors import UserError


def newlines(text: str) -> str:
    r"""\r\n and \r -> \n"""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def nfc(text: str) -> str:
    """One way of writing each character: a letter and its accent become one (Unicode's NFC)."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def control_characters(text: str) -> str:
    """Without control characters (but tabs and line ends) and byte order marks."""
    return _CONTROL.sub("", text) if "\ufeff" in text or _has_control(text) else text


def trailing_spaces(text: str) -> str:
    """Without spaces and tabs at the end of a line."""
    for end in (" \n", "\t\n"):  # most lines end in neither, so the parts are few
        text = "\n".join(part.rstrip(" \t") for part in text.split(end))
    return text


def blank_lines(text: str) -> str:
    """At most one blank line in a row."""
    return _BLANK.sub("\n\n", text)


def quotes(text: str) -> str:
    """Typographic quotation marks and apostrophes -> ' and \""""
    if not text.isascii():
        for typographic, plain in _QUOTES.items():
            text = text.replace(typographic, plain)
    return text


def _has_control(text: str) -> bool:
    """Whether there is one, by its bytes: most texts have none, and so it is seen four times as fast."""
    codes = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
    allowed = sum(np.count_nonzero(codes == ord(sign)) for sign in "\t\n\r")
    if np.count_nonzero(codes < 0x20) > allowed or np.count_nonzero(codes == 0x7F):
        return True
    return bool(np.any((codes[:-1] == 0xC2) & (codes[1:] < 0xA0)))  # \x80 to \x9f


_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff]")
_BLANK = re.compile("\n\n\n+")  # five times as fast as \n{3,}
_QUOTES = dict.fromkeys("\u2018\u2019\u201a\u201b", "'") | dict.fromkeys("\u201c\u201d\u201e\u201f", '"')

FUNCTIONS: dict[str, Callable[[str], str]] = {
    function.__name__: function
    for function in (newlines, nfc, control_characters, trailing_spaces, blank_lines, quotes)
}
FILTERS = ("duplicates", "min_length")


class Step(NamedTuple):
    """What one step of cleaning did."""

    name: str
    documents_before: int
    documents_after: int
    characters_before: int
    characters_after: int


class Cleaning(NamedTuple):
    """What `data.clean` asks for."""

    functions: tuple[Callable[[str], str], ...]
    filters: tuple[tuple[str, int], ...]  # (name, its number or 0)

    def __call__(self, text: str) -> str:
        """A piece of text, cleaned."""
        for function in self.functions:
            text = function(text)
        return text


def parse_cleaning(clean: Sequence[str]) -> Cleaning:
    """["newlines", "duplicates", "min_length=200"] -> the steps by those names.

    Raises:
        UserError: there is no step of this name, or it stands in the wrong place, or its number is wrong.
    """
    functions: list[Callable[[str], str]] = []
    filters: list[tuple[str, int]] = []
    for entry in clean:
        name, _, number = re.sub(r"\s*[:=]\s*", "=", entry).partition("=")
        if name in FILTERS:
            filters.append((name, _number(entry, name, number)))
        elif entry not in FUNCTIONS:
            raise UserError(f"data.clean: there is no {entry!r}.{_near(name)}")
        elif filters:
            raise UserError(
                f"data.clean: {entry} changes text, so it must stand before {filters[0][0]}, "
                "which looks at whole documents as they are in the end."
            )
        else:
            functions.append(FUNCTIONS[entry])
    return Cleaning(tuple(functions), tuple(filters))


def _number(entry: str, name: str, number: str) -> int:
    """The number in min_length=200; 0 for a filter that takes none."""
    takes_one = name == "min_length"
    if takes_one != number.isdecimal() or (number and not takes_one):
        raise UserError(f"data.clean: got {entry!r}, wanted {'min_length=200 (in characters)' if takes_one else name}.")
    return int(number or 0)


def _near(name: str) -> str:
    known = [*FUNCTIONS, *FILTERS]
    near = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {near[0]}?" if near else f" There are: {', '.join(known)}."
