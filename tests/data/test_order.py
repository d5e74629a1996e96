"""The order of batches is a pure function of seed, epoch and step."""

import numpy as np
import pytest

from gptlab.data.order import BatchOrder, FileOrder


def epoch(order: BatchOrder, number: int) -> np.ndarray:
    order.set_epoch(number)
    return np.stack(list(order))


def test_an_epoch_holds_each_window_once() -> None:
    batches = epoch(BatchOrder(100, batch_size=4, seed=1), 0)
    assert batches.shape == (25, 4)
    assert sorted(batches.ravel().tolist()) == list(range(100))
    assert (np.diff(batches.ravel()) != 1).any()


def test_the_incomplete_last_batch_is_dropped() -> None:
    order = BatchOrder(10, batch_size=4, seed=1)
    batches = epoch(order, 0)
    assert len(order) == len(batches) == 2
    assert len(set(batches.ravel().tolist())) == 8


def test_epochs_and_seeds_differ_and_come_back() -> None:
    order = BatchOrder(100, batch_size=4, seed=1)
    first, second = epoch(order, 0), epoch(order, 1)
    assert (first != second).any()
    assert (epoch(BatchOrder(100, batch_size=4, seed=2), 0) != first).any()
    assert (epoch(BatchOrder(100, batch_size=4, seed=1), 1) == second).all()
    assert (epoch(order, 0) == first).all()


def test_the_order_is_fixed_when_the_iteration_begins() -> None:
    order = BatchOrder(100, batch_size=4, seed=1)
    expected = epoch(order, 0)
    order.set_epoch(0)
    iterator = iter(order)
    head = next(iterator)
    order.set_epoch(5)
    np.random.default_rng(0)
    assert (np.stack([head, *iterator]) == expected).all()


def test_too_few_windows_for_a_batch() -> None:
    with pytest.raises(ValueError, match=r"data\.batch_size=8, but the training text has only 5 windows; lower"):
        BatchOrder(5, batch_size=8, seed=0)


def test_file_order_holds_every_window_in_order() -> None:
    order = FileOrder(10, batch_size=4)
    assert [batch.tolist() for batch in order] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert len(order) == 3
