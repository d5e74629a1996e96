"""Scores summed over blocks of a text.

M tokens, U blocks.
"""

import math
from typing import NamedTuple

import numpy as np

from gptlab.errors import UserError
from gptlab.evaluation.intervals import Difference, Sums, paired_difference
from gptlab.evaluation.score import Scores

MIN_DOCUMENTS = 30  # with fewer, the blocks are windows or stretches of the documents
MIN_STRETCHES = 50  # stretches are shortened until there are so many
MIN_STRETCH_TOKENS = 32  # shorter stretches would depend too much on their neighbours
MAX_BLOCKS = 2000  # more blocks do not improve an interval and take longer
MAX_BYTE_DIFFERENCE = 0.01  # between two counts of one text, as a share: SentencePiece counts the space it prepends


class Blocks(NamedTuple):
    """The units of a text that the bootstrap resamples.

    Nearby tokens depend on each other, so single tokens would make intervals too narrow.
    """

    kind: str  # documents, windows or stretches
    starts: np.ndarray  # (U,), the first token of each


def choose_blocks(scores: Scores) -> Blocks:
    """Return the blocks to resample: documents, windows or stretches.

    Documents are taken if there are enough, else windows or stretches of the text. Neighbours are joined above
    MAX_BLOCKS. An interval over documents covers other documents of their kind; one over windows or stretches only
    covers other passages of the same few documents. A stretch is as long as the context, and shorter in a short text,
    so that the number of blocks does not depend on the model's context length.
    """
    length = min(scores.context_length, max(MIN_STRETCH_TOKENS, len(scores.losses) // MIN_STRETCHES))
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


def loss_sums(scores: Scores, starts: np.ndarray) -> Sums:
    """Return the nats and scored tokens of each block."""
    return Sums(_sums(scores.losses, starts), _sums(scores.scored, starts))


def bit_sums(scores: Scores, starts: np.ndarray) -> Sums:
    """Return the bits and scored bytes of each block."""
    assert scores.n_bytes is not None
    return Sums(_sums(scores.losses, starts) / math.log(2), _sums(scores.n_bytes * scores.scored, starts))


def loss_difference(a: Scores, b: Scores, *, seed: int) -> Difference:
    """Return the loss difference a - b, in nats per token.

    Only tokens that both score count. Both models must have the same tokenizer.

    Raises:
        UserError: the models were scored on different texts.
    """
    if len(a.losses) != len(b.losses):
        raise UserError(
            f"one was scored on {len(a.losses):,} tokens, the other on {len(b.losses):,}: take the same text for both"
        )
    starts = min(choose_blocks(a).starts, choose_blocks(b).starts, key=len)
    both = a.scored & b.scored
    weights = _sums(both, starts)
    return paired_difference(*(Sums(_sums(s.losses * both, starts), weights) for s in (a, b)), seed=seed)


def bits_per_byte_difference(a: Scores, b: Scores, *, seed: int) -> Difference:
    """Return the bits-per-byte difference a - b.

    The tokenizers may differ. The blocks cover the same bytes for both models, and a token belongs to the block in
    which it ends. If one tokenizer counts a few bytes more, the blocks are the same shares of all bytes.

    Raises:
        UserError: a tokenizer can lose text, or the models were scored on different texts.
    """
    if a.n_bytes is None or b.n_bytes is None:
        raise UserError("a tokenizer that can lose text has no bits per byte: compare models with lossless tokenizers")
    ends = [np.cumsum(n_bytes, dtype=np.int64) for n_bytes in (a.n_bytes, b.n_bytes)]  # bytes up to each token's end
    totals = [int(up_to[-1]) for up_to in ends]
    if abs(totals[0] - totals[1]) > MAX_BYTE_DIFFERENCE * max(totals):
        raise UserError(
            f"one was scored on {totals[0]:,} bytes, the other on {totals[1]:,}: take the same text for both"
        )
    starts = [choose_blocks(s).starts for s in (a, b)]
    fewer = 0 if len(starts[0]) <= len(starts[1]) else 1
    borders = np.unique(ends[fewer][starts[fewer][1:] - 1])
    shares = (total / totals[fewer] for total in totals)  # 1 but for a few bytes
    starts = [
        np.concatenate([[0], np.searchsorted(up_to, borders * share, side="right")])
        for up_to, share in zip(ends, shares, strict=True)
    ]
    return paired_difference(bit_sums(a, starts[0]), bit_sums(b, starts[1]), seed=seed)


def _sums(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Sum values over each block, (M,) -> (U,).

    A block may be empty.
    """
    return np.array([block.sum(dtype=np.float64) for block in np.split(values, starts[1:])])
