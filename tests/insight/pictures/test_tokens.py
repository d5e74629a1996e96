"""Texts with coloured tokens."""

import numpy as np
import pytest

from gptlab.insight.pictures.colours import PAPER, PROBABILITY
from gptlab.insight.pictures.lettering import lettering
from gptlab.insight.pictures.tokens import MARGIN, N_COLUMNS, N_LINES, SIZE, ColouredToken, draw_tokens, lay_out


def tokens(*texts: str, given: int = 0) -> list[ColouredToken]:
    return [ColouredToken(text, None if i == 0 else 0.1, i < given, special=False) for i, text in enumerate(texts)]


def lines(*texts: str, n_lines: int = N_LINES) -> list[str]:
    """Return the lines of a layout, with a bar before each token."""
    layout = lay_out(tokens(*texts), n_lines)
    found = [""] * (layout.n_lines - bool(layout.n_more))
    for stretch in layout.stretches:
        found[stretch.line] += "|" * stretch.begins + "".join(glyph.text for glyph in stretch.glyphs)
    return found


ODD = {
    "formula": ["Cost: ", "$x^2$", " \\alpha_", "$"],
    "control characters": ["a", "\x00\x01\x7f", "\t", "\r\n", "\u200d\u2028\xa0"],
    "emoji": [" \U0001f600", "\U0001f680", "\u2764\ufe0f"],
    "scripts": [" \u041f\u0440\u0438\u0432\u0435\u0442", "\u03b3\u03b5\u03b9\u03ac", "\u4e2d\u6587", "\ud55c"],
    "right to left": [" \u0645\u0631\u062d\u0628\u0627", "\u05e9\u05dc\u05d5\u05dd"],
    "accents": ["\u0301", "e\u0301a\u0308", "\ufffd"],
    "long": ["a", "z" * 10_000, "b"],
    "empty": [],
}


@pytest.mark.parametrize("texts", ODD.values(), ids=ODD)
def test_odd_texts_are_drawn_the_same_each_time(texts: list[str]) -> None:
    picture = draw_tokens([tokens(*texts, given=1)])
    height, width, channels = picture.shape
    assert (width, channels, picture.dtype) == (700, 3, np.uint8)
    assert 100 < height < 2600
    assert (picture[100:] != 255).any() or not texts
    assert np.array_equal(picture, draw_tokens([tokens(*texts, given=1)]))


def test_what_no_font_has_is_escaped() -> None:
    """A box would say nothing; `$` and `\\` stay what they are."""
    written = lines("a$\\b", "\x00", "\t", "\u4e2d", "\U0001f680", "\u0416", "\n", "c")
    assert written == ["|a$\\b|\\x00|\\t|\\u4e2d|\\U0001f680|\u0416|\u21b5", "|c"]


def test_a_line_breaks_before_a_word_and_else_within_a_token() -> None:
    assert lines("x" * 40, " ab", "cdefgh", " i") == ["|" + "x" * 40, "| ab|cdefgh| i"]
    assert lines("y" * 100) == ["|" + "y" * N_COLUMNS, "y" * N_COLUMNS, "y" * 4]
    assert lines("x" * N_COLUMNS, "\n", "a") == ["|" + "x" * N_COLUMNS + "|\u21b5", "|a"]  # no line for the mark alone


def test_a_long_text_is_cut_and_counted() -> None:
    layout = lay_out(tokens(*["word\n"] * 100), 10)
    assert (len(layout.stretches), layout.n_more, layout.n_lines) == (10, 90, 11)
    assert lay_out(tokens("z" * 10_000, "b"), 10).n_more == 2  # a token of which a part is missing counts


def test_each_token_has_the_colour_of_its_probability() -> None:
    text = [ColouredToken(" ", p, given=False, special=False) for p in (None, 1.0, 0.1, 1e-3, 1e-9, float("nan"))]
    picture, cell = draw_tokens([text]), lettering(SIZE).cell
    row = int(np.flatnonzero((picture == PROBABILITY.colours[0]).all(-1).sum(1) > cell)[-1])  # below the legend
    low, _, middle, high = PROBABILITY.colours
    found = [tuple(picture[row, MARGIN + i * cell + cell // 2].tolist()) for i in range(len(text))]
    assert found == [PAPER, high, middle, low, low, PAPER]
