"""The colours of pictures, told apart with any kind of colour vision.

Probabilities go from orange through white to blue, which red-green colour blindness leaves apart, and black letters are
legible on all of them. Attention goes from white to dark blue.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from gptlab.insight.pictures.lettering import FAINT, Lettering

Colour = tuple[int, int, int]
PAPER: Colour = (255, 255, 255)
OUTLINE: Colour = (120, 120, 120)
# TensorBoard shows a picture on a card of this width, and of one n times as wide every n-th pixel; a click shows
# all of them. What is to be seen on the card is drawn in lines of n pixels.
CARD_WIDTH = 350


class Scale(NamedTuple):
    """Colours between 0 and 1, mixed between stops that a legend labels."""

    stops: tuple[float, ...]
    labels: tuple[str, ...]
    colours: tuple[Colour, ...]

    def paint(self, places: np.ndarray) -> np.ndarray:
        """Return the colours at places between 0 and 1.   (...) -> (..., 3) uint8"""
        channels = np.array(self.colours, dtype=float).T
        mixed = [np.interp(places, self.stops, channel) for channel in channels]
        return np.stack(mixed, axis=-1).round().astype(np.uint8)

    def draw(self, image: Image.Image, letters: Lettering, *, margin: int, line: int, lines: list[str]) -> None:
        """Draw a legend into the upper left corner: the bar with its labels, and lines beside it.

        Args:
            line: pixels of a thin line.
        """
        draw, x, y, width = ImageDraw.Draw(image), margin, margin, 25 * letters.cell
        bar = self.paint(np.linspace(0, 1, width))  # (width, 3)
        image.paste(Image.fromarray(np.repeat(bar[None], letters.height, axis=0)), (x, y))
        draw.rectangle((x, y, x + width - 1, y + letters.height - 1), outline=OUTLINE, width=line)
        below = y + letters.height
        for stop, label in zip(self.stops, self.labels, strict=True):
            at, n = x + round(stop * (width - line)), letters.cell * len(label)
            draw.rectangle((at, below, at + line - 1, below + 2 * line), fill=OUTLINE)
            letters.write(draw, max(x, min(at - n // 2, x + width - n)), below + 2 * line, label)
        for number, text in enumerate(lines):
            letters.write(draw, x + width + 2 * margin, y + number * letters.height, text, FAINT)


# from 1 in 1,000 (and less) to certainty, by the logarithm: equal steps of the loss are equal steps of the colour
PROBABILITY = Scale(
    stops=(0, 1 / 3, 2 / 3, 1),
    labels=("\u22640.1%", "1%", "10%", "100%"),
    colours=((232, 126, 45), (250, 200, 146), (247, 245, 240), (116, 176, 222)),
)
# by the square root, so that weights shared among many tokens are seen too
ATTENTION = Scale(
    stops=(0, 0.2236, 0.5, 0.7071, 1),
    labels=("0", "0.05", "0.25", "0.5", "1"),
    colours=((243, 247, 252), (198, 219, 239), (107, 174, 214), (33, 113, 181), (8, 48, 107)),
)
