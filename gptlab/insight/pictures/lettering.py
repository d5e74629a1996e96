"""The letters of a picture, in cells of one width.

The fonts are DejaVu Sans Mono and DejaVu Sans, which matplotlib brings along, so that a picture is the same on every
machine. They have Latin, Greek, Cyrillic, Armenian, Georgian, Hebrew and Arabic letters and many signs. Other
characters, and those that print nothing, are written as Python escapes. Letters stand in the order of the text, from
left to right and not joined, also those of a script that is read from right to left.
"""

import unicodedata
from collections.abc import Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from PIL import ImageDraw, ImageFont

FONTS = ("DejaVuSansMono.ttf", "DejaVuSans.ttf")
ESCAPES = {"\t": "\\t", "\r": "\\r"}
NEWLINE = "\u21b5"
INK, FAINT = (24, 24, 24), (70, 70, 70)  # of letters, and of what stands for other characters


class Glyph(NamedTuple):
    """What is drawn for one character."""

    text: str
    font: int  # its number in FONTS
    n_cells: int  # how many it fills; 0 for an accent on the character before
    faint: bool  # whether it stands for a character that cannot be drawn
    ends_line: bool


class Lettering:
    """Letters of one size.

    Args:
        size: pixels of the font's em.
    """

    def __init__(self, size: int) -> None:
        # the basic layout: it moves by whole pixels, and does not depend on libraries of the machine
        self.fonts = [ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC) for path in _paths()]
        self.cell = round(self.fonts[0].getlength("M"))  # width in pixels
        self.ascent, self.descent = self.fonts[0].getmetrics()
        self.height = self.ascent + self.descent

    def glyphs(self, text: str) -> list[Glyph]:
        """Return what is drawn for a text."""
        return [self._glyph(character) for character in text]

    def write(
        self, draw: ImageDraw.ImageDraw, x: int, y: int, text: str | Sequence[Glyph], ink: tuple[int, int, int] = INK
    ) -> None:
        """Draw a text whose first cell has its upper left corner at (x, y)."""
        glyphs = self.glyphs(text) if isinstance(text, str) else text
        for (font, faint, moves), run in groupby(
            glyphs, key=lambda glyph: (glyph.font, glyph.faint, glyph.n_cells > 0)
        ):
            letters = list(run)
            # the first font moves by a cell a letter; letters of another, and accents, are placed one by one
            for part in [letters] if font == 0 and moves else [[letter] for letter in letters]:
                n_cells, string = sum(letter.n_cells for letter in part), "".join(letter.text for letter in part)
                place = (x if n_cells else x - self.cell, y + self.ascent)
                draw.text(place, string, font=self.fonts[font], fill=FAINT if faint else ink, anchor="ls")
                x += n_cells * self.cell

    @cache  # noqa: B019 - there are three letterings
    def _glyph(self, character: str) -> Glyph:
        if character == "\n":
            return Glyph(NEWLINE, 0, 1, faint=True, ends_line=True)
        font = _font_of(character) if character.isprintable() else None
        if font is None:
            text = ESCAPES.get(character) or ascii(character)[1:-1]
            return Glyph(text, 0, len(text), faint=True, ends_line=False)
        if unicodedata.combining(character):
            return Glyph(character, font, 0, faint=False, ends_line=False)
        n_cells = 1 if font == 0 else max(1, -int(-self.fonts[font].getlength(character) // self.cell))
        return Glyph(character, font, n_cells, faint=False, ends_line=False)


@cache
def lettering(size: int) -> Lettering:
    """Return the letters of a size, which are loaded once."""
    return Lettering(size)


@cache
def _paths() -> list[Path]:
    import matplotlib

    return [Path(matplotlib.get_data_path(), "fonts", "ttf", name) for name in FONTS]


@cache
def _covered() -> list[frozenset[int]]:
    """Return the characters that each font has."""
    from matplotlib.ft2font import FT2Font

    return [frozenset(FT2Font(str(path)).get_charmap()) for path in _paths()]


def _font_of(character: str) -> int | None:
    """Return the number of the first font that has a character."""
    return next((number for number, covered in enumerate(_covered()) if ord(character) in covered), None)
