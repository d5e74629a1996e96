"""Padding of rows, and batches of similar lengths.

B batch, T tokens, N rows.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gptlab.storage.excerpts import excerpt

RowIndex = int | slice | Sequence[int] | np.ndarray  # selects rows
POOL_BATCHES = 50  # sorted by length at a time: a larger pool pads less, but makes epochs less random


def row_numbers(index: RowIndex, n_rows: int) -> np.ndarray:
    """Return the row numbers that an index selects.   -> (B,)

    As in a list, a negative number counts from the end. A single number gives a batch of one row.

    Raises:
        IndexError: there is no such row.
        TypeError: the index is of something else than whole numbers.
    """
    numbers = np.arange(n_rows)[index] if isinstance(index, slice) else np.atleast_1d(np.asarray(index))
    if numbers.dtype.kind not in "iu" or numbers.ndim != 1:
        raise TypeError(f"rows are selected by a number, a list of numbers or a slice, not by {excerpt(index)}")
    if numbers.size and not -n_rows <= numbers.min() <= numbers.max() < n_rows:
        raise IndexError(f"there is no row {excerpt(index)}: there are {n_rows:,} rows")
    return numbers % n_rows if numbers.size and numbers.min() < 0 else numbers


def pad_rows(rows: Sequence[np.ndarray], *, fill: int, n_tokens: int | None = None) -> Tensor:
    """Return rows as one tensor, padded with `fill`.

    Shapes: B arrays -> (B, T) int64.

    Args:
        n_tokens: T; None takes the longest row's length.
    """
    batch = np.full((len(rows), n_tokens or max(map(len, rows))), fill, dtype=np.int64)
    for place, row in zip(batch, rows, strict=True):
        place[: len(row)] = row
    return torch.from_numpy(batch)


def batch_similar_lengths(
    order: np.ndarray, lengths: np.ndarray, generator: np.random.Generator, *, batch_rows: int
) -> np.ndarray:
    """Reorder rows so that batches have similar lengths.

    Shapes: (N,) -> (N,).
    Rows stay within their pool of POOL_BATCHES batches; within a pool the batches are in random order. The last rows,
    too few for a batch, stay last.

    Args:
        order: row numbers in random order.
        lengths: of all rows, by row number.
        batch_rows: rows of a batch over all devices.
    """
    whole = len(order) // batch_rows * batch_rows
    pools = []
    for start in range(0, whole, POOL_BATCHES * batch_rows):
        pool = order[start : min(start + POOL_BATCHES * batch_rows, whole)]
        batches = pool[np.argsort(lengths[pool], kind="stable")].reshape(-1, batch_rows)
        pools.append(generator.permutation(batches).ravel())
    return np.concatenate([*pools, order[whole:]])


def draw_epoch(
    rows: int | np.ndarray,
    lengths: np.ndarray,
    generator: np.random.Generator,
    *,
    batch_rows: int,
    group_by_length: bool,
) -> np.ndarray:
    """Return an epoch's row numbers in random order.

    Args:
        rows: the row numbers, or how many there are.
        lengths: of all rows, by row number.
        batch_rows: rows of a batch over all devices.
        group_by_length: whether batches have similar lengths.
    """
    order = generator.permutation(rows)
    return batch_similar_lengths(order, lengths, generator, batch_rows=batch_rows) if group_by_length else order


def longest_first(lengths: np.ndarray) -> np.ndarray:
    """Return row numbers by decreasing length.

    Shapes: (N,) -> (N,). Little is padded, and a batch that does not fit in memory comes first.
    """
    return np.argsort(-lengths, kind="stable")
