"""Rows of unequal lengths: side by side in a batch, and alike ones together.   B batch, T tokens, N rows."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

POOL = 50  # batches' worth of rows among which alike ones are put together: some chance must remain


def padded(rows: Sequence[np.ndarray], *, fill: int, n_tokens: int | None = None) -> Tensor:
    """B arrays of at most T numbers -> (B, T) int64, `fill` after each.

    Args:
        n_tokens: T; None is the longest row's.
    """
    batch = np.full((len(rows), n_tokens or max(map(len, rows))), fill, dtype=np.int64)
    for place, row in zip(batch, rows, strict=True):
        place[: len(row)] = row
    return torch.from_numpy(batch)


def batch_similar_lengths(
    order: np.ndarray, lengths: np.ndarray, generator: np.random.Generator, *, batch_rows: int
) -> np.ndarray:
    """The same row numbers, those of like length in the same batches, so that little is padded.   (N,) -> (N,)

    Rows keep their place in the epoch up to a pool of batches; within a pool the batches come in an order of chance.
    The last rows, too few for a batch, stay last.

    Args:
        order: row numbers in an order of chance.
        lengths: of all rows, by their numbers.
        batch_rows: rows of a batch, over all devices.
    """
    whole = len(order) // batch_rows * batch_rows
    pools = []
    for start in range(0, whole, POOL * batch_rows):
        pool = order[start : min(start + POOL * batch_rows, whole)]
        batches = pool[np.argsort(lengths[pool], kind="stable")].reshape(-1, batch_rows)
        pools.append(generator.permutation(batches).ravel())
    return np.concatenate([*pools, order[whole:]])


def longest_first(lengths: np.ndarray) -> np.ndarray:
    """All row numbers, alike ones together: a batch that does not fit in memory is met at once.   (N,) -> (N,)"""
    return np.argsort(-lengths, kind="stable")
