"""Two models are compared over the same passages, even if tokens and windows differ."""

import math
from typing import Any

import numpy as np
import pytest

from gptlab.evaluation.blocks import (
    MAX_BLOCKS,
    bit_sums,
    bits_per_byte_difference,
    choose_blocks,
    loss_difference,
    loss_sums,
)
from gptlab.evaluation.intervals import bootstrap
from tests.support.evaluation import hard_and_easy, scores_of


def test_documents_are_the_blocks_where_there_are_enough() -> None:
    losses = np.ones(400)
    many = choose_blocks(scores_of(losses, documents=np.arange(0, 300, 10)))
    assert many.kind == "documents"
    assert many.starts.tolist() == list(range(0, 300, 10))
    few = choose_blocks(scores_of(losses, documents=np.arange(0, 290, 10)))
    assert few.kind == "windows"
    assert few.starts.tolist() == [0, *range(11, 400, 10)]


def test_where_windows_overlap_stretches_are_as_long_as_one() -> None:
    """Otherwise a small stride would treat neighbouring tokens as independent."""
    blocks = choose_blocks(scores_of(np.ones(400), stride=3))
    assert (blocks.kind, blocks.starts.tolist()) == ("stretches", [*range(0, 400, 10)])


@pytest.mark.parametrize(("n", "length"), [(8000, 160), (800, 32)])
def test_in_a_short_text_stretches_are_shorter_than_a_long_context(n: int, length: int) -> None:
    blocks = choose_blocks(scores_of(np.ones(n), length=8192))
    assert (blocks.kind, blocks.starts.tolist()) == ("stretches", [*range(0, n, length)])
    assert choose_blocks(scores_of(np.ones(n), length=30)).kind == "windows"
    assert choose_blocks(scores_of(np.ones(100_000), length=30)).kind == "stretches"  # of two windows


@pytest.mark.parametrize("compare", [loss_difference, bits_per_byte_difference])
def test_a_long_context_does_not_hide_a_difference(compare: Any) -> None:
    nats = hard_and_easy(8000)
    short = scores_of(nats, sizes=np.ones(8000), length=64)
    for difference in (0.02, -0.02):
        far_sighted = scores_of(nats + difference, sizes=np.ones(8000), length=8192)
        assert compare(far_sighted, short, seed=0).significant
        assert compare(short, far_sighted, seed=0).significant


def test_too_short_a_text_has_no_interval() -> None:
    for n, some in ((640, True), (600, False)):
        a, b = (scores_of(hard_and_easy(700)[:n] + more, length=1024) for more in (0.0, 0.1))
        assert (loss_difference(b, a, seed=0).interval is not None) is some
        assert loss_difference(b, a, seed=0).significant is some


def test_a_tokenizer_may_count_a_space_before_each_text() -> None:
    """The blocks of three texts are the same passages, so a difference of 0.01 nats per byte is found."""
    nats = hard_and_easy(21_000)
    spaces = [0, 7000, 14_000]
    a = scores_of(nats, sizes=np.ones(21_000), length=200)
    b = scores_of(np.insert(nats + 0.01, spaces, 0.0), sizes=np.ones(21_003), length=200)
    difference = bits_per_byte_difference(b, a, seed=0)
    assert difference.value == pytest.approx(0.01 / math.log(2), rel=0.05)
    assert difference.significant
    assert bits_per_byte_difference(a, b, seed=0).value == pytest.approx(-difference.value)


@pytest.mark.parametrize("n", [1, 2, 11, 40_000])
def test_blocks_hold_every_token_and_are_not_too_many(n: int) -> None:
    scores = scores_of(hard_and_easy(40_000)[:n], sizes=np.arange(n) % 4)
    starts = choose_blocks(scores).starts
    assert len(starts) <= MAX_BLOCKS
    assert loss_sums(scores, starts).weights.sum() == scores.n_tokens == n - 1
    assert bit_sums(scores, starts).weights.sum() == scores.scored_bytes
    if n > 2:
        assert loss_sums(scores, starts).ratio == pytest.approx(scores.loss)
        assert bit_sums(scores, starts).ratio == pytest.approx(scores.bits_per_byte)


def test_the_same_tokens_are_compared_where_windows_differ() -> None:
    losses = hard_and_easy(2000)
    a = scores_of(losses, length=10, n_scored=1990)
    b = scores_of(losses + 0.01, length=64, stride=16, n_scored=1984)
    difference = loss_difference(b, a, seed=0)
    assert difference.value == pytest.approx(0.01, rel=1e-4)
    assert difference.interval == pytest.approx((0.01, 0.01), rel=1e-4)
    assert difference.significant
    assert loss_difference(a, b, seed=0).value == pytest.approx(-difference.value)


def test_the_same_text_is_compared_where_tokens_differ() -> None:
    """One model reads bytes, the other tokens of 1 to 7 bytes at a loss 0.01 nats per byte higher."""
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
    alone = bootstrap(bit_sums(a, choose_blocks(a).starts), seed=0)
    assert difference.interval is not None
    assert alone is not None
    assert difference.interval.high - difference.interval.low < 0.1 * (alone.high - alone.low)
    assert difference.significant


def test_documents_stay_whole_where_tokens_differ() -> None:
    """40 documents of unequal loss, with end-of-text tokens of no bytes, are read by bytes and by pairs of bytes."""
    nats = np.random.default_rng(0).gamma(2.0, size=40).repeat(20).reshape(40, 20)
    by_byte = np.column_stack([nats, np.ones(40)]).ravel()
    by_pair = np.column_stack([nats.reshape(40, 10, 2).sum(axis=2), np.ones(40)]).ravel()
    a = scores_of(by_byte, sizes=np.tile([1] * 20 + [0], 40), documents=np.arange(0, 40 * 21, 21))
    b = scores_of(by_pair, sizes=np.tile([2] * 10 + [0], 40), documents=np.arange(0, 40 * 11, 11))
    difference = bits_per_byte_difference(a, b, seed=0)
    assert difference.interval is not None
    assert (
        difference.interval.high - difference.interval.low < 0.02
    )  # apart from the first tokens, which are not scored
    assert not difference.significant


@pytest.mark.parametrize("compare", [loss_difference, bits_per_byte_difference])
def test_the_longer_blocks_of_the_two_are_used(compare: Any) -> None:
    """Neighbours in a long stretch are alike; as independent blocks they would make the interval too narrow."""
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
    with pytest.raises(ValueError, match="compare models with lossless tokenizers"):
        bits_per_byte_difference(a, scores_of(np.ones(100)), seed=0)
