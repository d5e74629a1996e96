"""Texts whose tokens are coloured by their probability.

H and W pixels of the picture.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from gptlab.insight.pictures.colours import CARD_WIDTH, PAPER, PROBABILITY, Colour
from gptlab.insight.pictures.lettering import FAINT, INK, Glyph, lettering

LINE = 2  # pixels of the picture for one of TensorBoard's card
N_COLUMNS, N_LINES = 48, 60  # of a picture; each text gets its share of the lines
SIZE, SMALL = 23, 20  # pixels of the letters, and of those of the legend
MARGIN, PITCH = 14, 36  # pixels around the picture, and from a line of letters to the next
BORDER: Colour = (150, 150, 150)  # between two tokens
N_DECADES = 3  # of probabilities that the colours tell apart, below 1


class ColouredToken(NamedTuple):
    """A token of a picture."""

    text: str
    probability: float | None  # given the tokens before it; None if there are none
    given: bool  # whether it belongs to the prompt
    special: bool


class Stretch(NamedTuple):
    """The part of a token that stands in one line."""

    line: int
    column: int
    glyphs: list[Glyph]
    token: ColouredToken
    begins: bool  # whether the token begins here
    ends: bool


class Layout(NamedTuple):
    """A text laid out in lines."""

    stretches: list[Stretch]
    n_more: int  # tokens that have no place, or not all of theirs

    @property
    def n_lines(self) -> int:
        """Return the number of lines, with the one that says how many tokens are missing."""
        return 1 + bool(self.n_more) + max((stretch.line for stretch in self.stretches), default=0)


def draw_tokens(texts: Sequence[Sequence[ColouredToken]]) -> np.ndarray:
    """Draw texts below each other, each token on the colour of its probability.

    -> (H, W, 3) uint8

    Tokens of a prompt are underlined, special ones framed. A text with too many lines is cut; the picture says by how
    many tokens.
    """
    layouts = [lay_out(text, max(1, N_LINES // len(texts))) for text in texts]
    top = 2 * MARGIN + 3 * lettering(SMALL).height  # below the legend
    height = top + sum(layout.n_lines * PITCH + MARGIN for layout in layouts)
    image = Image.new("RGB", (LINE * CARD_WIDTH, height), PAPER)
    draw = ImageDraw.Draw(image)
    _draw_legend(image, texts)
    for number, layout in enumerate(layouts):
        if number:
            draw.rectangle((MARGIN, top - MARGIN, image.width - MARGIN, top - MARGIN + LINE - 1), fill=BORDER)
        _draw_text(draw, layout, top)
        top += layout.n_lines * PITCH + MARGIN
    return np.asarray(image)


def lay_out(text: Sequence[ColouredToken], n_lines: int) -> Layout:
    """Lay out a text in lines, broken before a word if possible, else before a token or within one."""
    letters, stretches, line, column, n_placed = lettering(SIZE), list[Stretch](), 0, 0, 0
    text = [token for token in text if token.text]
    for word in _words(text):
        glyphs = [letters.glyphs(token.text) for token in word]
        if N_COLUMNS - column < sum(map(_room, chain(*glyphs))) <= N_COLUMNS:
            line, column = line + 1, 0
        for token, rest in zip(word, glyphs, strict=True):
            begins = True
            while rest:
                if line >= n_lines:
                    return Layout(stretches, n_more=len(text) - n_placed)
                part = list(_fitting(rest, N_COLUMNS - column))
                rest = rest[len(part) :]
                if part:
                    stretches.append(Stretch(line, column, part, token, begins, ends=not rest))
                    column, begins = column + _width(part), False
                if rest or part[-1].ends_line:
                    line, column = line + 1, 0
            n_placed += 1
    return Layout(stretches, n_more=0)


def _words(text: Sequence[ColouredToken]) -> Iterator[list[ColouredToken]]:
    """Yield the tokens in groups that stand in one line if they can."""
    word: list[ColouredToken] = []
    for token in text:
        if word and (token.special or word[-1].special or token.text[0].isspace() or word[-1].text.endswith("\n")):
            yield word
            word = []
        word.append(token)
    if word:
        yield word


def _width(glyphs: Sequence[Glyph]) -> int:
    return sum(glyph.n_cells for glyph in glyphs)


def _room(glyph: Glyph) -> int:
    """Return the cells that a glyph needs in a line; the mark of its end may stand in the margin."""
    return 0 if glyph.ends_line else glyph.n_cells


def _fitting(glyphs: Sequence[Glyph], n_cells: int) -> Iterator[Glyph]:
    """Yield the glyphs that fit into the rest of a line, at most to the end of a line of the text."""
    for glyph in glyphs:
        n_cells -= _room(glyph)
        if n_cells < 0:
            return
        yield glyph
        if glyph.ends_line:
            return


def _colour(probability: float | None) -> Colour:
    if probability is None or math.isnan(probability):
        return PAPER
    place = 1 + math.log10(max(probability, 10.0**-N_DECADES)) / N_DECADES
    red, green, blue = PROBABILITY.paint(np.array(place)).tolist()
    return red, green, blue


def _draw_legend(image: Image.Image, texts: Sequence[Sequence[ColouredToken]]) -> None:
    """Draw the colours with their numbers, and say what the other marks mean."""
    tokens = [token for text in texts for token in text]
    lines = ["probability of a token"]
    lines += ["underlined: the prompt"] * any(token.given for token in tokens)
    lines += ["framed: special"] * any(token.special for token in tokens)
    PROBABILITY.draw(image, lettering(SMALL), margin=MARGIN, line=LINE, lines=lines)


def _draw_text(draw: ImageDraw.ImageDraw, layout: Layout, top: int) -> None:
    for stretch in layout.stretches:
        _draw_stretch(draw, stretch, top + stretch.line * PITCH)
    if layout.n_more:
        more = f"... {layout.n_more:,} token{'s' * (layout.n_more > 1)} more"
        lettering(SIZE).write(draw, MARGIN, top + (layout.n_lines - 1) * PITCH, more, FAINT)
    elif not layout.stretches:
        lettering(SIZE).write(draw, MARGIN, top, "(no tokens)", FAINT)


def _draw_stretch(draw: ImageDraw.ImageDraw, stretch: Stretch, y: int) -> None:
    """Draw letters on their colour; the frame is open where the token goes on in another line."""
    letters, token = lettering(SIZE), stretch.token
    left = MARGIN + stretch.column * letters.cell
    right, below = left + _width(stretch.glyphs) * letters.cell, y + PITCH - 3 * LINE

    def fill(x: int, y: int, to_x: int, to_y: int, colour: Colour) -> None:
        if x < to_x:  # an accent has no width
            draw.rectangle((x, y, to_x - 1, to_y - 1), fill=colour)

    fill(left, y, right, below, _colour(token.probability))
    frame = INK if token.special else BORDER
    if token.special:
        fill(left, y, right, y + LINE, frame)
        fill(left, below - LINE, right, below, frame)
    if stretch.begins:
        fill(left, y, left + LINE, below, frame)
    if stretch.ends:  # the next token's frame begins at the same place
        fill(right, y, right + LINE, below, frame)
    if token.given:
        fill(left, below, right, below + LINE, INK)
    letters.write(draw, left, y + (below - y - letters.height) // 2, stretch.glyphs)
