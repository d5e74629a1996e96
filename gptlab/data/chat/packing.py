"""Batches of unequal rows, padded or packed.

B rows of a batch, T tokens, N rows.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from gptlab.batch import IGNORE_INDEX, Batch
from gptlab.data.padding import RowIndex, draw_epoch, longest_first, pad_rows, row_numbers


class TokenRow(NamedTuple):
    """One example, as ids and targets."""

    ids: np.ndarray  # (T,) int32
    targets: np.ndarray  # (T,) int32, the id that follows each, or IGNORE_INDEX


class PaddedRows:
    """Rows padded to the longest in their batch.

    Args:
        group_by_length: puts rows of similar length into the same batches of an epoch.
    """

    def __init__(self, rows: Sequence[TokenRow], *, group_by_length: bool) -> None:
        self.rows, self.group_by_length = rows, group_by_length
        self.lengths = np.array([len(row.ids) for row in rows])  # (N,)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def __getitem__(self, index: RowIndex) -> Batch:
        """Return these rows' ids and targets.

        (B,) -> (B, T) each, T of the longest row.
        """
        rows = [self.rows[i] for i in row_numbers(index, len(self))]
        ids = pad_rows([row.ids for row in rows], fill=0)  # any id will do: attention is causal
        return Batch(ids=ids, targets=pad_rows([row.targets for row in rows], fill=IGNORE_INDEX))

    def epoch(self, generator: np.random.Generator, batch_rows: int) -> np.ndarray:
        """Return every row number once in random order.   -> (N,)"""
        return draw_epoch(
            len(self), self.lengths, generator, batch_rows=batch_rows, group_by_length=self.group_by_length
        )

    def reading_order(self) -> np.ndarray:
        """Return the row numbers, the longest first.   -> (N,)"""
        return longest_first(self.lengths)


class PackedRows:
    """Bins of one length, each filled with whole rows.

    A bin's `segments` number its rows; there is no attention between rows.

    Args:
        context_length: tokens of a bin; no row is longer.
    """

    def __init__(self, rows: Sequence[TokenRow], *, context_length: int) -> None:
        self.rows, self.context_length = rows, context_length
        self.bins = best_fit(np.array([len(row.ids) for row in rows]), context_length)

    def __len__(self) -> int:
        """Return the number of bins."""
        return len(self.bins)

    def __getitem__(self, index: RowIndex) -> Batch:
        """Return these bins' ids, targets and segments.

        (B,) -> (B, context_length) each

        The rest of a bin is padding with segment -1.
        """
        bins = [[self.rows[i] for i in self.bins[number]] for number in row_numbers(index, len(self))]
        segments = [np.repeat(np.arange(len(rows)), [len(row.ids) for row in rows]) for rows in bins]
        return Batch(
            ids=self._filled([np.concatenate([row.ids for row in rows]) for rows in bins], 0),
            targets=self._filled([np.concatenate([row.targets for row in rows]) for rows in bins], IGNORE_INDEX),
            segments=self._filled(segments, -1),
        )

    def _filled(self, rows: Sequence[np.ndarray], fill: int) -> Tensor:
        return pad_rows(rows, fill=fill, n_tokens=self.context_length)

    def epoch(self, generator: np.random.Generator, batch_rows: int) -> np.ndarray:
        """Return every bin number once in random order."""
        return generator.permutation(len(self))

    def reading_order(self) -> np.ndarray:
        """Return the bin numbers, those with the longest rows first."""
        return np.arange(len(self))


def best_fit(lengths: np.ndarray, size: int) -> list[list[int]]:
    """Return each bin's rows by best fit decreasing.

    Rows are placed longest first, each into the fullest bin that has room (Johnson, 1973: at most 11/9 of the optimal
    number of bins, plus one). The same lengths give the same bins.

    Args:
        lengths: (N,), each at most `size`.
    """
    bins: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (free tokens, bin), the fullest first
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
    """Return the padding share of each batch layout."""
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
    """Return T + 1 ids as a row of T targets.

    Args:
        learned: which of the T + 1 ids are trained on.
    """
    whole = np.array(ids, dtype=np.int32)
    return TokenRow(whole[:-1], np.where(learned[1:], whole[1:], IGNORE_INDEX).astype(np.int32))
