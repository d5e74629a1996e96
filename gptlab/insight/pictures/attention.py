"""Attention maps: where each token looks, in some layers and heads.

L layers, H heads, T tokens; S pixels of a map.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from gptlab.insight.pictures.colours import ATTENTION, CARD_WIDTH, OUTLINE, PAPER
from gptlab.insight.pictures.lettering import INK, Glyph, Lettering, lettering

LINE = 3  # pixels of the picture for one of TensorBoard's card; twice as many where maps are many or large
SIZE, SMALL = 30, 11  # pixels of the letters of titles and legend, and of tokens
MARGIN, GAP = 12, 15  # pixels around the picture, and between two maps
MANY_HEADS, MANY_TOKENS = 4, 32  # with more the picture is twice as wide
MAP_PIXELS, MAP_CELL = 480, 24  # the most of a map, and of a weight in it
LABEL_PIXELS, LABEL_CELLS, NUMBER_CELLS = 12, 10, 4  # least height of a row with a token beside it; its most letters
STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)  # from a numbered token to the next


class Grid(NamedTuple):
    """Where the maps of a picture stand, in pixels."""

    line: int  # pixels of a thin line
    cell: int  # of a weight
    side: int  # of a map
    left: int  # where the first map begins
    top: int

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """Return the upper left corner of a map."""
        return self.left + column * (self.side + GAP), self.top + row * (self.side + GAP)


def draw_attention(
    weights: np.ndarray, tokens: Sequence[str], *, layers: Sequence[int], heads: Sequence[int], note: str
) -> np.ndarray:
    """Draw a map of each head, the maps of a layer side by side.

    (L, H, T, T) -> (height, width, 3) uint8

    A row of a map is the token that looks, a column the token that it looks at; what no token sees is left out. Where
    the rows are too low for the tokens, they are numbered.

    Args:
        tokens: T texts.
        layers, heads: L and H numbers for the titles.
        note: a line beside the legend.
    """
    scale = 1 + (len(heads) > MANY_HEADS or len(tokens) > MANY_TOKENS)
    letters, grid = lettering(scale * SIZE), _grid(tokens, len(heads), scale)
    width = max(scale * LINE * CARD_WIDTH, grid.corner(0, len(heads))[0])
    image = Image.new("RGB", (width, grid.corner(len(layers), 0)[1]), PAPER)
    legend = ["a row looks at the columns", note]
    ATTENTION.draw(image, letters, margin=MARGIN, line=grid.line, lines=legend)
    labels = _labels(tokens, grid.cell)
    for column, head in enumerate(heads):
        x, y = grid.corner(0, column)
        _draw_labels(image, labels, (x, y), grid, above=True)
        _write_title(image, f"head {head}", letters, (x, 2 * MARGIN + 2 * letters.height), grid.side + GAP)
    for row, layer in enumerate(layers):
        x, y = grid.corner(row, 0)
        _draw_labels(image, labels, (x, y), grid, above=False)
        _write_title(image, f"layer {layer}", letters, (MARGIN, y), grid.side + GAP, upwards=True)
        for column in range(len(heads)):
            x, y = grid.corner(row, column)
            image.paste(Image.fromarray(_map(weights[row, column], grid)), (x, y))
            frame = (x - grid.line, y - grid.line, x + grid.side + grid.line - 1, y + grid.side + grid.line - 1)
            ImageDraw.Draw(image).rectangle(frame, outline=OUTLINE, width=grid.line)
    return np.asarray(image)


def _grid(tokens: Sequence[str], n_heads: int, scale: int) -> Grid:
    """Return a grid that is as wide as the picture."""
    letters, small, line, n_tokens = lettering(scale * SIZE), lettering(SMALL), scale * LINE, len(tokens)
    beside = max(NUMBER_CELLS, *(_width(_label(token)) for token in tokens)) * small.cell + 3 * line
    left, top = MARGIN + letters.height + beside, 2 * MARGIN + 3 * letters.height + beside
    left, top = left - left % line, top - top % line
    cell = ((line * CARD_WIDTH - left) // n_heads - GAP) // n_tokens
    cell = max(1, min(cell, MAP_PIXELS // n_tokens, MAP_CELL))
    cell -= cell % line if cell > line else 0
    return Grid(line, cell, cell * n_tokens, left, top)


def _map(weights: np.ndarray, grid: Grid) -> np.ndarray:
    """Return the pixels of a map, (T, T) -> (S, S, 3) uint8."""
    pixels = ATTENTION.paint(np.sqrt(weights.clip(0, 1)))  # (T, T, 3)
    pixels[np.triu_indices(len(weights), k=1)] = PAPER
    pixels = pixels.repeat(grid.cell, axis=0).repeat(grid.cell, axis=1)
    if grid.cell >= 4 * grid.line:  # a line between two weights
        for first in range(grid.cell - grid.line, grid.side, grid.cell):
            pixels[first : first + grid.line], pixels[:, first : first + grid.line] = PAPER, PAPER
    return pixels


def _labels(tokens: Sequence[str], cell: int) -> dict[int, list[Glyph]]:
    """Return what stands beside a map: the number of a row -> its label."""
    small = lettering(SMALL)
    if cell < LABEL_PIXELS:
        step = next(step for step in STEPS if step * cell >= 2 * LABEL_PIXELS)
        return {i: small.glyphs(str(i + 1)) for i in [0, *range(step - 1, len(tokens), step)]}
    return {number: _label(token) for number, token in enumerate(tokens)}


def _label(token: str) -> list[Glyph]:
    """Return a token's label with visible blanks, and an ellipsis in place of what is too long."""
    glyphs = lettering(SMALL).glyphs(token.replace(" ", "\u2423"))
    if _width(glyphs) <= LABEL_CELLS:
        return glyphs
    ends = list(accumulate(glyph.n_cells for glyph in glyphs))
    return [*glyphs[: sum(end < LABEL_CELLS for end in ends)], *lettering(SMALL).glyphs("\u2026")]


def _draw_labels(
    image: Image.Image, labels: dict[int, list[Glyph]], corner: tuple[int, int], grid: Grid, *, above: bool
) -> None:
    """Draw the tokens above the map at a corner, or on its left."""
    small, (x, y) = lettering(SMALL), corner
    for number, label in labels.items():
        width, middle = _width(label) * small.cell, number * grid.cell + (grid.cell - small.height) // 2
        strip = Image.new("RGB", (width, small.height), PAPER)
        small.write(ImageDraw.Draw(strip), 0, 0, label)
        place = (x - 2 * grid.line - width, y + middle)
        if above:
            strip, place = strip.transpose(Image.Transpose.ROTATE_90), (x + middle, y - 2 * grid.line - width)
        image.paste(INK, place, mask=ImageChops.invert(strip.convert("L")))  # no paper: labels of low rows overlap


def _write_title(
    image: Image.Image, title: str, letters: Lettering, corner: tuple[int, int], room: int, *, upwards: bool = False
) -> None:
    """Write a title, or its last word where there is no room."""
    if len(title) * letters.cell > room:
        title = title.split()[-1]
    strip = Image.new("RGB", (len(title) * letters.cell, letters.height), PAPER)
    letters.write(ImageDraw.Draw(strip), 0, 0, title)
    image.paste(strip.transpose(Image.Transpose.ROTATE_90) if upwards else strip, corner)


def _width(glyphs: Sequence[Glyph]) -> int:
    return sum(glyph.n_cells for glyph in glyphs)
