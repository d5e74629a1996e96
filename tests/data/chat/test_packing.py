"""Packed and padded rows: the loss of each row alone, and little padding."""

from itertools import combinations

import numpy as np
import pytest
import torch

from gptlab.batch import IGNORE_INDEX, Batch
from gptlab.data.chat.packing import PackedRows, PaddedRows, TokenRow, as_row, best_fit, padding_shares
from gptlab.heads.instruction import InstructionHead
from gptlab.heads.protocol import HeadContext
from tests.support.tiny_models import FAMILIES, tiny_gpt

LENGTHS = [3, 20, 1, 7, 31, 32, 5, 12, 12, 2, 9, 16]


def rows(lengths: list[int], vocab_size: int = 50) -> list[TokenRow]:
    """Return random ids, a random half of them learned."""
    rng = np.random.default_rng(0)
    made = []
    for length in lengths:
        learned = rng.random(length + 1) < 0.5
        learned[-1] = True
        made.append(as_row(rng.integers(vocab_size, size=length + 1).tolist(), learned.tolist()))
    return made


def test_only_learned_tokens_are_targets() -> None:
    row = as_row([5, 6, 7, 8], [False, False, True, True])
    assert row.ids.tolist() == [5, 6, 7]
    assert row.targets.tolist() == [IGNORE_INDEX, 7, 8]


def test_padding_is_not_learned() -> None:
    batch = PaddedRows(rows(LENGTHS), group_by_length=True)[np.array([0, 3, 2])]
    assert batch["ids"].shape == batch["targets"].shape == (3, 7)
    assert (batch["targets"][0, 3:] == IGNORE_INDEX).all()
    assert "segments" not in batch


@pytest.mark.parametrize("group_by_length", [True, False])
def test_an_epoch_has_every_row_once(group_by_length: bool) -> None:
    padded = PaddedRows(rows(LENGTHS), group_by_length=group_by_length)
    order = padded.epoch(np.random.default_rng(1), 4)
    assert sorted(order.tolist()) == list(range(len(LENGTHS)))
    spread = np.ptp(padded.lengths[order].reshape(-1, 4), axis=1).sum()
    assert (spread < 40) == group_by_length
    assert padded.lengths[padded.reading_order()].tolist() == sorted(LENGTHS, reverse=True)


def test_bins_hold_every_row_once_and_none_is_too_full() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        lengths = rng.integers(1, 33, size=200)
        bins = best_fit(lengths, 32)
        assert sorted(row for part in bins for row in part) == list(range(200))
        fills = [lengths[part].sum() for part in bins]
        assert max(fills) <= 32
        assert len(bins) <= 11 / 9 * -(-lengths.sum() // 32) + 1
        assert all(a + b > 32 for a, b in combinations(fills, 2)), "two bins would have fitted into one"
        assert best_fit(lengths, 32) == bins


def test_a_row_goes_into_the_fullest_bin_with_room() -> None:
    assert best_fit(np.array([6, 7, 3, 2]), 10) == [[1, 2], [0, 3]]


def test_segments_number_the_rows_of_a_bin() -> None:
    packed = PackedRows(rows([3, 2, 4]), context_length=8)
    batch = packed[np.arange(len(packed))]
    assert batch["segments"].tolist() == [[0, 0, 0, 0, 1, 1, 1, -1], [0, 0, -1, -1, -1, -1, -1, -1]]
    assert (batch["targets"][1, 2:] == IGNORE_INDEX).all()
    assert batch["ids"].shape == batch["targets"].shape == (2, 8)


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_rows_have_the_same_loss_as_alone(family: str) -> None:
    """Compare each token's loss, with learned and rotary positions and a sliding window."""
    model = tiny_gpt(**FAMILIES[family])
    head = InstructionHead(model, HeadContext(50, None), tied=True, loss_chunk_rows=None)
    made = rows(LENGTHS)

    def token_losses(batch: Batch) -> torch.Tensor:
        with torch.inference_mode():
            return head.token_losses(model(batch["ids"], segments=batch.get("segments")), batch)

    packed = PackedRows(made, context_length=32)
    assert len(packed) < len(made) / 2
    losses = token_losses(packed[np.arange(len(packed))])
    for number, part in enumerate(packed.bins):
        place = 0
        for row in part:
            alone = PaddedRows(made, group_by_length=False)[np.array([row])]
            n = len(made[row].ids)
            torch.testing.assert_close(losses[number, place : place + n], token_losses(alone)[0], atol=1e-5, rtol=0)
            place += n
        assert (losses[number, place:] == 0).all()


def test_padding_shares_of_each_layout() -> None:
    made = rows(LENGTHS)
    shares = padding_shares(made, batch_size=3, context_length=32)
    assert shares["packed"] == pytest.approx(1 - sum(LENGTHS) / (5 * 32))
    assert shares["packed"] < shares["side by side, by length"] < shares["side by side"]
