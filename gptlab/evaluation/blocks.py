"""Scores summed over parts of the text, the same parts for two models.   M tokens, U blocks."""

import math
from typing import NamedTuple

import numpy as np

from gptlab.evaluation.intervals import Difference, Sums, paired
from gptlab.evaluation.score import Scores

MIN_DOCUMENTS = 30  # of fewer, no interval says much
MAX_BLOCKS = 2000  # more make no interval better, only slower


class Blocks(NamedTuple):
    """What is drawn anew, as a whole, to see how much a number depends on the text: nearby tokens are alike."""

    kind: str  # documents or windows
    starts: np.ndarray  # (U,), the token with which each begins


def blocks_of(scores: Scores) -> Blocks:
    """Documents where there are enough, else stretches as long as a window; neighbours joined where there are many.

    An interval over documents says what others of their kind would give, one over windows only what other passages of
    the same few documents would.
    """
    if len(scores.documents) >= MIN_DOCUMENTS:
        kind, starts = "documents", scores.documents
    else:
        kind, starts = "windows", scores.windows[:: -(-scores.context_length // scores.stride)]
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
        ValueError: they were scored on different texts.
    """
    if len(a.losses) != len(b.losses):
        raise ValueError(
            f"one was scored on {len(a.losses):,} tokens, the other on {len(b.losses):,}: take the same text for both"
        )
    starts = min(blocks_of(a).starts, blocks_of(b).starts, key=len)
    both = a.scored & b.scored
    weights = _sums(both, starts)
    return paired(*(Sums(_sums(s.losses * both, starts), weights) for s in (a, b)), seed=seed)


def bits_per_byte_difference(a: Scores, b: Scores, *, seed: int) -> Difference:
    """a's bits per byte - b's, whatever their tokenizers.

    The blocks are the same bytes for both; a token belongs to the one in which it ends.

    Raises:
        ValueError: a tokenizer can lose text, or they were scored on different texts.
    """
    if a.n_bytes is None or b.n_bytes is None:
        raise ValueError("a tokenizer that can lose text gives no bits per byte: such models have no common measure")
    ends = [np.cumsum(n_bytes, dtype=np.int64) for n_bytes in (a.n_bytes, b.n_bytes)]  # bytes up to each token's end
    if ends[0][-1] != ends[1][-1]:
        raise ValueError(
            f"one was scored on {ends[0][-1]:,} bytes, the other on {ends[1][-1]:,}: take the same text for both"
        )
    starts = [blocks_of(s).starts for s in (a, b)]
    fewer = 0 if len(starts[0]) <= len(starts[1]) else 1
    borders = np.unique(ends[fewer][starts[fewer][1:] - 1])
    starts = [np.concatenate([[0], np.searchsorted(up_to, borders, side="right")]) for up_to in ends]
    return paired(per_byte(a, starts[0]), per_byte(b, starts[1]), seed=seed)


def _sums(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """(M,) -> (U,), over each block, which ends where the next one begins; a block may be empty."""
    return np.array([block.sum(dtype=np.float64) for block in np.split(values, starts[1:])])
