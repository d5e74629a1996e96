"""One text in the tokens of two models.

S spans.
"""

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple


class Span(NamedTuple):
    """The bytes between two borders that both have, and the tokens of each."""

    text: bytes
    tokens: tuple[range, range]


class PairBits(NamedTuple):
    """What two models need for the spans in which both score every token."""

    first: float  # bits
    second: float
    n_bytes: int

    @property
    def difference(self) -> float | None:
        """Return the first one's bits per byte minus the second one's; None without a byte."""
        return (self.first - self.second) / self.n_bytes if self.n_bytes else None


def pair_bits(spans: Sequence[Span], first: Sequence[float], second: Sequence[float]) -> PairBits:
    """Sum the bits of both models over the spans that both score whole.

    Args:
        first, second: each model's losses in nats, of its tokens after the first.
    """
    both = [span for span in spans if span.tokens[0].start and span.tokens[1].start]
    sums = (
        sum(losses[i - 1] for span in both for i in span.tokens[k]) / math.log(2)
        for k, losses in enumerate((first, second))
    )
    return PairBits(next(sums), next(sums), sum(len(span.text) for span in both))


def align(first: Sequence[bytes], second: Sequence[bytes]) -> list[Span] | None:
    """Divide a text at the borders of tokens that both tokenizers have.

    Tokens without bytes, such as the beginning of a text, belong to the span after them, the last ones to the last.

    Returns:
        The S spans in order; None if the tokens are not of the same text.
    """
    if (text := b"".join(first)) != b"".join(second):
        return None
    ends = [[*accumulate(map(len, pieces))] for pieces in (first, second)]
    borders = sorted({*ends[0]} & {*ends[1]} - {0})
    spans: list[Span] = []
    at, starts = 0, [0, 0]
    for border in borders:
        # the first token that ends at the border: those after it without bytes belong to what follows
        stops = [each.index(border, start) + 1 for each, start in zip(ends, starts, strict=True)]
        if border == len(text):
            stops = [len(first), len(second)]
        spans.append(Span(text[at:border], (range(starts[0], stops[0]), range(starts[1], stops[1]))))
        at, starts = border, stops
    return spans
