"""Batches are a pure function of the seed and their number."""

import numpy as np
import pytest

from gptlab.batch import Batch
from gptlab.data.padding import draw_epoch
from gptlab.data.samplers import TrainSampler, ValSampler, rows_at_once


class Numbers:
    """Rows with nothing but their numbers."""

    def __init__(self, n_rows: int) -> None:
        self.n_rows = n_rows

    def __len__(self) -> int:
        return self.n_rows

    def __getitem__(self, index: np.ndarray) -> Batch:
        raise NotImplementedError

    def epoch(self, generator: np.random.Generator, batch_rows: int) -> np.ndarray:
        return generator.permutation(self.n_rows)

    def reading_order(self) -> np.ndarray:
        return np.arange(self.n_rows)


def order(n_windows: int, *, batch_size: int = 4, n_batches: int = 50, **changes: int) -> TrainSampler:
    arguments = {"seed": 1, "start": 0, "rank": 0, "world_size": 1, **changes}
    arguments = {"epoch_rows": n_windows, **arguments}
    return TrainSampler(Numbers(n_windows), batch_size=batch_size, n_batches=n_batches, **arguments)


def drawn(*arguments: int, **changes: int) -> np.ndarray:
    return np.stack(list(order(*arguments, **changes)))


def test_of_a_shortened_epoch_the_first_batches_are_read() -> None:
    whole, shortened = drawn(100, n_batches=50), drawn(100, n_batches=50, epoch_rows=40)
    assert (shortened[:10] == whole[:10]).all()
    assert (shortened[10:20] == whole[25:35]).all()  # the second epoch begins earlier, in an order of its own
    assert (np.stack(list(order(100, epoch_rows=40, start=13))) == shortened[13:]).all()


def test_each_epoch_has_every_window_once_in_its_own_order() -> None:
    batches = drawn(100, n_batches=75)
    epochs = batches.reshape(3, 100)
    for epoch in epochs:
        assert sorted(epoch.tolist()) == list(range(100))
        assert (np.diff(epoch) != 1).any()
    assert (epochs[0] != epochs[1]).any()
    assert (epochs[1] != epochs[2]).any()


@pytest.mark.parametrize(("n_rows", "batch_size"), [(32, 12), (10, 4), (11, 3), (8, 8), (13, 8)])
def test_an_epoch_whose_last_rows_fill_no_batch_is_seen_whole(n_rows: int, batch_size: int) -> None:
    rows = drawn(n_rows, batch_size=batch_size, n_batches=3 * n_rows).ravel()  # batch_size * 3 epochs
    assert rows_at_once(n_rows, batch_size=batch_size, world_size=1) == batch_size
    epochs = rows.reshape(-1, n_rows)
    assert all(sorted(epoch.tolist()) == list(range(n_rows)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == len(epochs)
    for start in range(1, 3 * n_rows, 5):
        rest = drawn(n_rows, batch_size=batch_size, n_batches=3 * n_rows, start=start)
        assert (rest.ravel() == rows[start * batch_size :]).all()


def test_batches_of_similar_lengths_stay_whole_after_a_batch_that_crosses_epochs() -> None:
    lengths = np.arange(101)

    class Unequal(Numbers):
        def epoch(self, generator: np.random.Generator, batch_rows: int) -> np.ndarray:
            return draw_epoch(len(lengths), lengths, generator, batch_rows=batch_rows, group_by_length=True)

    sampler = TrainSampler(
        Unequal(101), batch_size=5, seed=0, n_batches=101, epoch_rows=101, start=0, rank=0, world_size=1
    )
    batches = np.stack(list(sampler))
    assert all(sorted(epoch.tolist()) == list(range(101)) for epoch in batches.reshape(5, 101))
    assert (np.ptp(lengths[batches], axis=1) < 10).sum() > 90, "at most two batches of an epoch are mixed"


def test_a_run_resumes_at_any_batch() -> None:
    whole = drawn(100, n_batches=60)
    for start in (1, 24, 25, 26, 59):
        assert (drawn(100, n_batches=60, start=start) == whole[start:]).all()
        assert len(order(100, n_batches=60, start=start)) == 60
    assert list(order(100, n_batches=60, start=60)) == []
    assert (drawn(100, n_batches=90)[:60] == whole).all()  # a longer run begins as the shorter one


def test_seeds_give_different_orders() -> None:
    assert (drawn(100, seed=2) != drawn(100)).any()


def test_devices_divide_the_batches_of_one() -> None:
    whole = drawn(100, batch_size=8, n_batches=20)
    shares = [drawn(100, batch_size=4, n_batches=20, rank=rank, world_size=2) for rank in (0, 1)]
    assert (np.concatenate(shares, axis=1) == whole).all()
    whole = drawn(101, batch_size=6, n_batches=50)
    shares = [drawn(101, batch_size=2, n_batches=50, rank=rank, world_size=3) for rank in range(3)]
    assert (np.concatenate(shares, axis=1) == whole).all()


def test_too_few_windows_for_a_batch_are_reported() -> None:
    with pytest.raises(ValueError, match=r"data\.batch_size=8, but the training split has only 5 rows or"):
        order(5, batch_size=8)
    with pytest.raises(ValueError, match=r"data\.batch_size=8 on 2 devices, .* 9 rows or .* to at most 4"):
        order(9, batch_size=8, world_size=2)


def test_validation_order_holds_every_window_in_order() -> None:
    whole = ValSampler(Numbers(10), batch_size=4, rank=0, world_size=1)
    assert [batch.tolist() for batch in whole] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert len(whole) == 3


def test_devices_divide_the_validation_rows() -> None:
    shares = [ValSampler(Numbers(11), batch_size=2, rank=rank, world_size=3) for rank in range(3)]
    windows = np.concatenate([window for share in shares for window in share])
    assert sorted(windows.tolist()) == list(range(11))
    assert [len(share) for share in shares] == [2, 2, 2]
    with pytest.raises(ValueError, match="validation split has 2 rows or windows, too few for 3 devices"):
        ValSampler(Numbers(2), batch_size=2, rank=0, world_size=3)
