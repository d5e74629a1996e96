"""Pictures of attention."""

import numpy as np
import pytest

from gptlab.insight.pictures.attention import draw_attention
from gptlab.insight.pictures.colours import ATTENTION, CARD_WIDTH, PAPER


def weights(n_layers: int, n_heads: int, n_tokens: int) -> np.ndarray:
    """Return weights (L, H, T, T) that are the same for all visible tokens."""
    visible = np.tri(n_tokens)
    return np.broadcast_to(visible / visible.sum(1, keepdims=True), (n_layers, n_heads, n_tokens, n_tokens)).copy()


@pytest.mark.parametrize(
    ("n_layers", "n_heads", "n_tokens"), [(1, 1, 1), (2, 4, 16), (12, 12, 16), (2, 4, 128), (1, 1, 300)]
)
def test_maps_of_any_number_fit_the_picture(n_layers: int, n_heads: int, n_tokens: int) -> None:
    texts = [" $x^2$", "\u4e2d\x00", "internationalisation", "\n"] * n_tokens
    numbers = {"layers": range(1, n_layers + 1), "heads": range(1, n_heads + 1)}
    picture = draw_attention(weights(n_layers, n_heads, n_tokens), texts[:n_tokens], **numbers, note="")
    height, width, channels = picture.shape
    assert (width % CARD_WIDTH, channels, picture.dtype) == (0, 3, np.uint8)
    assert width <= 6 * CARD_WIDTH
    assert height < 2000
    assert (picture[:, -1] == 255).all(), "a map is cut off"
    again = draw_attention(weights(n_layers, n_heads, n_tokens), texts[:n_tokens], **numbers, note="")
    assert np.array_equal(picture, again)


def test_a_row_is_the_token_that_looks() -> None:
    """The third token looks at the first: dark in the lower left corner, and white where no token looks."""
    looks = np.zeros((1, 1, 3, 3))
    looks[0, 0, [0, 1, 2], [0, 1, 0]] = 1
    picture = draw_attention(looks, ["a", "b", "c"], layers=[1], heads=[1], note="")
    dark = (picture == ATTENTION.colours[-1]).all(-1)
    dark[:100] = False  # the legend
    ys, xs = dark.nonzero()
    first = lambda values: int(values.min())  # noqa: E731
    cell = (int(ys.max()) - first(ys) + 1) // 3 + 1
    at = lambda row, column: picture[first(ys) + row * cell + 4, first(xs) + column * cell + 4].tolist()  # noqa: E731
    dark_colour, light, paper = (list(colour) for colour in (ATTENTION.colours[-1], ATTENTION.colours[0], PAPER))
    assert [at(0, 0), at(1, 1), at(2, 0)] == [dark_colour] * 3
    assert [at(1, 0), at(2, 1), at(2, 2)] == [light] * 3
    assert [at(0, 1), at(0, 2), at(1, 2)] == [paper] * 3
