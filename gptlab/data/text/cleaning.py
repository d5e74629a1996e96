"""Cleaning of text, and filters on whole documents.

The functions are local: applied to the chunks of `chunking.py` one by one, they give the same as on the whole text.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from gptlab.errors import UserError, nearest

# besides \n and \r: vertical tab, form feed, the separators of files, groups and records, NEL
CONTROL_LINE_ENDS = "\x0b\x0c\x1c\x1d\x1e\x85"
LINE_ENDS = f"\r{CONTROL_LINE_ENDS}\u2028\u2029"  # with Unicode's separators of lines and paragraphs
UNIT_SEPARATOR = "\x1f"  # between words, as a space
INVISIBLE = "\xad\u2060\ufeff"  # soft hyphen, word joiner, byte order mark: hints without width
CONTROL = re.compile(f"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f{INVISIBLE}]")
EXTRA_BLANK_LINES = re.compile("\n\n\n+")  # five times as fast as \n{3,}
QUOTES = dict.fromkeys("\u2018\u2019\u201a\u201b", "'") | dict.fromkeys("\u201c\u201d\u201e\u201f", '"')


def newlines(text: str) -> str:
    r"""Replace \r\n, \r, form feeds and other line ends by \n."""
    return _replace_line_ends(text.replace("\r\n", "\n"), LINE_ENDS)


def nfc(text: str) -> str:
    """Compose letters and their accents (Unicode's NFC)."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def control_characters(text: str) -> str:
    r"""Remove control characters, byte order marks and soft hyphens.

    Tabs and line ends stay; those that are control characters become \n.
    """
    if not _has_control(text) and (text.isascii() or not any(sign in text for sign in INVISIBLE)):
        return text
    text = _replace_line_ends(text, CONTROL_LINE_ENDS).replace(UNIT_SEPARATOR, " ")
    return CONTROL.sub("", text)


def trailing_spaces(text: str) -> str:
    """Remove spaces and tabs before line ends."""
    for end in (" \n", "\t\n"):  # most lines end in neither, so there are few parts
        text = "\n".join(part.rstrip(" \t") for part in text.split(end))
    return text


def blank_lines(text: str) -> str:
    """Reduce blank lines to one in a row."""
    return EXTRA_BLANK_LINES.sub("\n\n", text)


def quotes(text: str) -> str:
    """Replace typographic quotation marks by ASCII ones."""
    if not text.isascii():
        for typographic, plain in QUOTES.items():
            text = text.replace(typographic, plain)
    return text


def _replace_line_ends(text: str, ends: str) -> str:
    r"""Replace each of some line ends by \n; a form feed beside one adds none."""
    for end in ends:
        if end == "\f":
            text = text.replace("\n\f", "\n").replace("\f\n", "\n")
        text = text.replace(end, "\n")
    return text


def _has_control(text: str) -> bool:
    """Return whether a text has control characters.

    Most texts have none, and counting bytes finds that out four times as fast as a regular expression.
    """
    codes = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
    allowed = sum(np.count_nonzero(codes == ord(sign)) for sign in "\t\n\r")
    if np.count_nonzero(codes < 0x20) > allowed or np.count_nonzero(codes == 0x7F):
        return True
    return bool(np.any((codes[:-1] == 0xC2) & (codes[1:] < 0xA0)))  # \x80 to \x9f


FUNCTIONS: dict[str, Callable[[str], str]] = {
    function.__name__: function
    for function in (newlines, nfc, control_characters, trailing_spaces, blank_lines, quotes)
}
FILTERS = ("duplicates", "min_length")


class Step(NamedTuple):
    """Sizes before and after one cleaning step."""

    name: str
    documents_before: int
    documents_after: int
    characters_before: int
    characters_after: int


class Cleaning(NamedTuple):
    """The cleaning steps of `data.clean`."""

    functions: tuple[Callable[[str], str], ...]
    filters: tuple[tuple[str, int], ...]  # (name, number or 0)

    def __call__(self, text: str) -> str:
        """Return a cleaned chunk of text."""
        for function in self.functions:
            text = function(text)
        return text


def parse_cleaning(clean: Sequence[str]) -> Cleaning:
    """Return the cleaning steps by their names.

    Args:
        clean: for example ["newlines", "duplicates", "min_length=200"].

    Raises:
        UserError: a name is unknown, a step is out of order, or its number is wrong.
    """
    functions: list[Callable[[str], str]] = []
    filters: list[tuple[str, int]] = []
    for entry in clean:
        name, _, number = re.sub(r"\s*[:=]\s*", "=", entry).partition("=")
        if name in FILTERS:
            filters.append((name, _number(entry, name, number)))
        elif entry not in FUNCTIONS:
            raise UserError(f"data.clean: there is no {entry!r}{_suggestion(name)}")
        elif filters:
            raise UserError(
                f"data.clean: {entry} changes text, so it must stand before {filters[0][0]}, "
                "which filters whole documents by their final text"
            )
        else:
            functions.append(FUNCTIONS[entry])
    return Cleaning(tuple(functions), tuple(filters))


def _number(entry: str, name: str, number: str) -> int:
    """Return the number of a filter like min_length=200.

    It is 0 for a filter that takes none.
    """
    takes_one = name == "min_length"
    if takes_one != number.isdecimal() or (number and not takes_one):
        raise UserError(f"data.clean: got {entry!r}, wanted {'min_length=200 (in characters)' if takes_one else name}")
    return int(number or 0)


def _suggestion(name: str) -> str:
    known = [*FUNCTIONS, *FILTERS]
    return nearest(name, known) or f": there are {', '.join(known)}"
