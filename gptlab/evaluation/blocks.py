"""Scores summed over parts of the text, the same parts for two models.   M tokens, U blocks."""

import math
from typing import NamedTuple

import numpy as np

from gptlab.errors import UserError
from gptlab.evaluation.intervals import Difference, Sums, paired
from gptlab.evaluation.score import Scores

MIN_DOCUMENTS = 30  # where there are fewer, parts of them are drawn
MIN_STRETCHES = 50  # shorter ones where there would be fewer
MIN_STRETCH = 32  # tokens; shorter ones would be too much like their neighbours
MAX_BLOCKS = 2000  # more make no interval better, only slower
SAME_BYTES = 0.01  # what may be between two counts of one text: SentencePiece counts the space it puts before each


class Blocks(NamedTuple):
    """What is drawn anew, as a whole, to see how much a number depends on the text: nearby tokens are alike."""

    kind: str  # documents, windows or stretches
    starts: np.ndarray  # (U,), the token with which each begins


def score_blocks(scores: Scores) -> Blocks:
    """Documents where there are enough, else windows or stretches of the text; neighbours joined where there are many.

    An interval over documents says what others of their kind would give, one over windows or stretches only what other
    passages of the same few documents would. A stretch is as long as the context, but shorter in a short text: how many
    there are must not hang on how much a model can read.
    """
    length = min(scores.context_length, max(MIN_STRETCH, len(scores.losses) // MIN_STRETCHES))
    if len(scores.documents) >= MIN_DOCUMENTS:
        kind, starts = "documents", scores.documents
    elif length == scores.context_length == scores.stride and len(scores.windows) <= MAX_BLOCKS:
        kind, starts = "windows", scores.windows
    else:
        kind, starts = "stretches", np.arange(0, len(scores.losses), length)
    n = min(len(starts), MAX_BLOCKS)
    starts = starts[np.arange(n) * len(starts) // n]
    starts[0] = 0
    return Blocks(kind, starts)


def per_token(scores: Scores, starts: np.ndarray) -> Sums:
    """Nats and scored tokens of each block."""
    return Sums(_sums(scores.losses, starts), _sums(scores.scored, starts))


def per_byte(scores: Scores, starts: np.ndarray) -> Sums:
    """Bits and scored bytes of each block."""
    assert scores.n_bytes is not None
    return Sums(_sums(scores.losses, starts) / math.log(2), _sums(scores.n_bytes * scores.scored, starts))


def loss_difference(a: Scores, b: Scores, *, seed: int) -> Difference:
    """a's loss - b's, in nats a token, over the tokens that both score. Their tokenizers are the same.

    Raises:
        UserError: they were scored on different texts.
    """
    if len(a.losses) != len(b.losses):
        raise UserError(
            f"one was scored on {len(a.losses):,} tokens, the other on {len(b.losses):,}: take the same text for both"
        )
    starts = min(score_blocks(a).starts, score_blocks(b).starts, key=len)
    both = a.scored & b.scored
    weights = _sums(both, starts)
    return paired(*(Sums(_sums(s.losses * both, starts), weights) for s in (a, b)), seed=seed)


def bits_per_byte_difference(a: Scores, b: Scores, *, seed: int) -> Difference:
    """a's bits per byte - b's, whatever their tokenizers.

    The blocks are the same bytes for both; a token belongs to the one in which it ends. Where one tokenizer counts a
    few bytes more, they are the same shares of all bytes.

    Raises:
        UserError: a tokenizer can lose text, or they were scored on different texts.
    """
    if a.n_bytes is None or b.n_bytes is None:
        raise UserError("a tokenizer that can lose text gives no bits per byte: such models have no common measure")
    ends = [np.cumsum(n_bytes, dtype=np.int64) for n_bytes in (a.n_bytes, b.n_bytes)]  # bytes up to each token's end
    totals = [int(up_to[-1]) for up_to in ends]
    if abs(totals[0] - totals[1]) > SAME_BYTES * max(totals):
        raise UserError(
            f"one was scored on {totals[0]:,} bytes, the other on {totals[1]:,}: take the same text for both"
        )
    starts = [score_blocks(s).starts for s in (a, b)]
    fewer = 0 if len(starts[0]) <= len(starts[1]) else 1
    borders = np.unique(ends[fewer][starts[fewer][1:] - 1])
    shares = (total / totals[fewer] for total in totals)  # 1 but for a few bytes
    starts = [
        np.concatenate([[0], np.searchsorted(up_to, borders * share, side="right")])
        for up_to, share in zip(ends, shares, strict=True)
    ]
    return paired(per_byte(a, starts[0]), per_byte(b, starts[1]), seed=seed)


def _sums(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """(M,) -> (U,), over each block, which ends where the next one begins; a block may be empty."""
    return np.array([block.sum(dtype=np.float64) for block in np.split(values, starts[1:])])
