"""Rows of unequal lengths in batches: padded side by side, or packed into bins of one length.

B rows of a batch, T tokens, N rows.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from gptlab.batch import IGNORE_INDEX, Batch
from gptlab.data.padding import batch_similar_lengths, longest_first, padded


class TokenRow(NamedTuple):
    """One example as a model reads it."""

    ids: np.ndarray  # (T,) int32
    targets: np.ndarray  # (T,) int32, the id that follows each, IGNORE_INDEX where it is not learned


class PaddedRows:
    """A row each; those of a batch are filled up to the longest.

    Args:
        group_by_length: an epoch puts rows of like length into the same batches.
    """

    def __init__(self, rows: Sequence[TokenRow], *, group_by_length: bool) -> None:
        self.rows, self.group_by_length = rows, group_by_length
        self.lengths = np.array([len(row.ids) for row in rows])  # (N,)

    def __len__(self) -> int:
        """Rows."""
        return len(self.rows)

    def __getitem__(self, index: np.ndarray) -> Batch:
        """(B,) numbers -> ids and targets, (B, T) each, T the longest of them."""
        rows = [self.rows[i] for i in index]
        ids = padded([row.ids for row in rows], fill=0)  # any id will do: nothing looks ahead at it
        return Batch(ids=ids, targets=padded([row.targets for row in rows], fill=IGNORE_INDEX))

    def epoch(self, generator: np.random.Generator, batch_rows: int) -> np.ndarray:
        """Every row once, in an order of chance."""
        order = generator.permutation(len(self))
        return (
            batch_similar_lengths(order, self.lengths, generator, batch_rows=batch_rows)
            if self.group_by_length
            else order
        )

    def reading_order(self) -> np.ndarray:
        """The longest first."""
        return longest_first(self.lengths)


class PackedRows:
    """Bins of one length, each filled with whole rows. A bin's `segments` count its rows, which do not see each other.

    Args:
        context_length: tokens of a bin; no row is longer.
    """

    def __init__(self, rows: Sequence[TokenRow], *, context_length: int) -> None:
        self.rows, self.context_length = rows, context_length
        self.bins = best_fit(np.array([len(row.ids) for row in rows]), context_length)

    def __len__(self) -> int:
        """Bins."""
        return len(self.bins)

    def __getitem__(self, index: np.ndarray) -> Batch:
        """(B,) numbers -> ids, targets and segments, (B, context_length) each; what is left of a bin is segment -1."""
        bins = [[self.rows[i] for i in self.bins[number]] for number in index]
        segments = [np.repeat(np.arange(len(rows)), [len(row.ids) for row in rows]) for rows in bins]
        return Batch(
            ids=self._filled([np.concatenate([row.ids for row in rows]) for rows in bins], 0),
            targets=self._filled([np.concatenate([row.targets for row in rows]) for rows in bins], IGNORE_INDEX),
            segments=self._filled(segments, -1),
        )

    def _filled(self, rows: Sequence[np.ndarray], fill: int) -> Tensor:
        return padded(rows, fill=fill, n_tokens=self.context_length)

    def epoch(self, generator: np.random.Generator, batch_rows: int) -> np.ndarray:
        """Every bin once, in an order of chance."""
        return generator.permutation(len(self))

    def reading_order(self) -> np.ndarray:
        """As they were filled: the bins with the longest rows first."""
        return np.arange(len(self))


def best_fit(lengths: np.ndarray, size: int) -> list[list[int]]:
    """Row numbers of each bin: the longest row first, each into the fullest bin that still takes it (best fit
    decreasing: Johnson, 1973; at most 11/9 of the fewest bins, and one).

    lengths (N,), each at most `size`. The same lengths give the same bins.
    """
    bins: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens that are free, bin), the fullest first
    for row in longest_first(lengths).tolist():
        place = bisect_left(room, (int(lengths[row]), 0))
        if place < len(room):
            free, number = room.pop(place)
        else:
            free, number = size, len(bins)
            bins.append([])
        bins[number].append(row)
        if left := free - int(lengths[row]):
            insort(room, (left, number))
    return bins


def padding_shares(rows: Sequence[TokenRow], *, batch_size: int, context_length: int) -> dict[str, float]:
    """Which part of the tokens that a model reads in an epoch stand for nothing, each way of making batches."""
    n_tokens = sum(len(row.ids) for row in rows)

    def share(read: int) -> float:
        return 1 - n_tokens / read

    def side_by_side(*, group_by_length: bool) -> int:
        padded_rows = PaddedRows(rows, group_by_length=group_by_length)
        lengths = padded_rows.lengths[padded_rows.epoch(np.random.default_rng(0), batch_size)]
        batches = np.split(lengths, range(batch_size, len(lengths), batch_size))
        return sum(int(batch.max()) * len(batch) for batch in batches)

    return {
        "side by side": share(side_by_side(group_by_length=False)),
        "side by side, by length": share(side_by_side(group_by_length=True)),
        "packed": share(len(PackedRows(rows, context_length=context_length)) * context_length),
    }


def as_row(ids: Sequence[int], learned: Sequence[bool]) -> TokenRow:
    """T + 1 ids, and which of them are learned -> the row of T that predicts each but the first."""
    whole = np.array(ids, dtype=np.int32)
    return TokenRow(whole[:-1], np.where(learned[1:], whole[1:], IGNORE_INDEX).astype(np.int32))
