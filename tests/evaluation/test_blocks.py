"""Two models are compared over the same parts of the text, whatever their tokens and windows."""

import math
from typing import Any

import numpy as np
import pytest

from gptlab.evaluation.blocks import (
    MAX_BLOCKS,
    bits_per_byte_difference,
    blocks_of,
    loss_difference,
    per_byte,
    per_token,
)
from gptlab.evaluation.intervals import bootstrap
from gptlab.evaluation.score import Scores


def scores_of(
    losses: np.ndarray,
    *,
    sizes: np.ndarray | None = None,
    documents: tuple[int, ...] | np.ndarray = (0,),
    length: int = 10,
    stride: int | None = None,
    n_scored: int | None = None,
) -> Scores:
    """As `score` would give them for one file; without a tail, only `n_scored` tokens count."""
    stride, n = stride or length, len(losses)
    scored = np.arange(n) > 0
    scored[(n_scored or n) + 1 :] = False
    later = np.arange(length + 1, n, stride)
    return Scores(
        losses=np.where(scored, losses, 0).astype(np.float32),
        scored=scored,
        n_bytes=None if sizes is None else sizes.astype(np.uint16),
        documents=np.array(documents),
        windows=np.array([1, *later]),
        context_length=length,
        stride=stride,
    )


def hard_and_easy(n: int, seed: int = 0) -> np.ndarray:
    """Losses of a text whose passages differ, each byte's."""
    draw = np.random.default_rng(seed)
    return np.repeat(draw.gamma(2.0, size=n // 50), 50) + draw.gamma(1.0, size=n // 50 * 50)


def test_documents_are_the_blocks_where_there_are_enough() -> None:
    losses = np.ones(400)
    many = blocks_of(scores_of(losses, documents=np.arange(0, 300, 10)))
    assert many.kind == "documents"
    assert many.starts.tolist() == list(range(0, 300, 10))
    few = blocks_of(scores_of(losses, documents=np.arange(0, 290, 10)))
    assert few.kind == "windows"
    assert few.starts.tolist() == [0, *range(11, 400, 10)]


def test_a_sliding_windows_blocks_are_as_long_as_a_windows() -> None:
    """Else a small stride would make neighbouring tokens pass for independent ones."""
    assert blocks_of(scores_of(np.ones(400), stride=3)).starts[1:3].tolist() == [20, 32]
    assert blocks_of(scores_of(np.ones(400), stride=5)).starts[1:3].tolist() == [16, 26]


@pytest.mark.parametrize("n", [1, 2, 11, 40_000])
def test_blocks_hold_every_token_and_are_not_too_many(n: int) -> None:
    scores = scores_of(hard_and_easy(40_000)[:n], sizes=np.arange(n) % 4)
    starts = blocks_of(scores).starts
    assert len(starts) <= MAX_BLOCKS
    assert per_token(scores, starts).weights.sum() == scores.n_tokens == n - 1
    assert per_byte(scores, starts).weights.sum() == scores.scored_bytes
    if n > 2:
        assert per_token(scores, starts).ratio == pytest.approx(scores.loss)
        assert per_byte(scores, starts).ratio == pytest.approx(scores.bits_per_byte)


def test_the_same_tokens_are_compared_where_windows_differ() -> None:
    losses = hard_and_easy(2000)
    a = scores_of(losses, length=10, n_scored=1990)
    b = scores_of(losses + 0.01, length=64, stride=16, n_scored=1984)
    difference = loss_difference(b, a, seed=0)
    assert difference.value == pytest.approx(0.01, rel=1e-4)
    assert difference.interval == pytest.approx((0.01, 0.01), rel=1e-4)
    assert difference.real
    assert loss_difference(a, b, seed=0).value == pytest.approx(-difference.value)


def test_the_same_text_is_compared_where_tokens_differ() -> None:
    """One model reads bytes, the other tokens of 1 to 7 bytes, and costs 0.01 nats a byte more."""
    nats = hard_and_easy(21_000)
    ends = np.cumsum(np.tile([3, 1, 7, 2, 5, 6], len(nats) // 24))
    starts = np.concatenate([[0], ends[:-1]])
    a = scores_of(nats, sizes=np.ones(len(nats)), length=200)
    b = scores_of(np.add.reduceat(nats + 0.01, starts), sizes=ends - starts, length=90)
    difference = bits_per_byte_difference(b, a, seed=0)
    assert a.bits_per_byte is not None
    assert b.bits_per_byte is not None
    assert difference.value == pytest.approx(b.bits_per_byte - a.bits_per_byte)
    assert difference.value == pytest.approx(0.01 / math.log(2), rel=0.02)
    alone = bootstrap(per_byte(a, blocks_of(a).starts), seed=0)
    assert difference.interval is not None
    assert alone is not None
    assert difference.interval.high - difference.interval.low < 0.1 * (alone.high - alone.low)
    assert difference.real


def test_documents_stay_whole_where_tokens_differ() -> None:
    """40 documents of unequal cost and an end-of-text token, which has no bytes: read by bytes and by pairs of them."""
    nats = np.random.default_rng(0).gamma(2.0, size=40).repeat(20).reshape(40, 20)
    by_byte = np.column_stack([nats, np.ones(40)]).ravel()
    by_pair = np.column_stack([nats.reshape(40, 10, 2).sum(axis=2), np.ones(40)]).ravel()
    a = scores_of(by_byte, sizes=np.tile([1] * 20 + [0], 40), documents=np.arange(0, 40 * 21, 21))
    b = scores_of(by_pair, sizes=np.tile([2] * 10 + [0], 40), documents=np.arange(0, 40 * 11, 11))
    difference = bits_per_byte_difference(a, b, seed=0)
    assert difference.interval is not None
    assert difference.interval.high - difference.interval.low < 0.02  # but for the first tokens, which nobody scores
    assert not difference.real


@pytest.mark.parametrize("compare", [loss_difference, bits_per_byte_difference])
def test_the_longer_windows_are_the_blocks(compare: Any) -> None:
    """Neighbours in a long window are alike; as independent blocks they would promise too much."""
    nats = hard_and_easy(4000)
    other = nats + np.random.default_rng(1).normal(0, 0.1, size=80).repeat(50)
    a, b = (scores_of(losses, sizes=np.ones(4000), length=200) for losses in (nats, other))
    a_short, b_short = (scores_of(losses, sizes=np.ones(4000), length=10) for losses in (nats, other))
    wanted = compare(a, b, seed=0).interval
    assert compare(a_short, b, seed=0).interval == compare(a, b_short, seed=0).interval == wanted
    assert compare(a_short, b_short, seed=0).interval != wanted


def test_different_texts_are_refused() -> None:
    a, b = (scores_of(np.ones(n), sizes=np.ones(n)) for n in (100, 120))
    with pytest.raises(ValueError, match="100 tokens, the other on 120: take the same text"):
        loss_difference(a, b, seed=0)
    with pytest.raises(ValueError, match="100 bytes, the other on 120: take the same text"):
        bits_per_byte_difference(a, b, seed=0)
    with pytest.raises(ValueError, match="no common measure"):
        bits_per_byte_difference(a, scores_of(np.ones(100)), seed=0)
