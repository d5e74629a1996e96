"""Windows of token shards.

B batch, T tokens of a window.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch.utils.data import Dataset

from gptlab.batch import IGNORE_INDEX, Batch
from gptlab.data.padding import RowIndex, row_numbers
from gptlab.data.text.shards import Shard


class Windows(Dataset[Batch]):
    """Dataset of the windows of token shards.

    Window i of a shard reads its tokens [i * stride, i * stride + T); the targets are shifted by one. No window crosses
    from one shard into the next. It pickles as paths, so worker processes open the files themselves.

    Args:
        dtype: of the ids in the files, "uint16" or "uint32".
        stride: from the first token of a window to the first of the next.
        tail: include each shard's last, incomplete window, with ids padded by 0 and targets by IGNORE_INDEX.
    """

    def __init__(self, shards: Sequence[Shard], *, dtype: str, context_length: int, stride: int, tail: bool) -> None:
        self.shards, self.dtype = list(shards), dtype
        self.context_length, self.stride = context_length, stride
        n_whole = [len(range(0, shard.n_tokens - context_length, stride)) for shard in shards]
        has_tail = [tail and whole * stride + 1 < shard.n_tokens for whole, shard in zip(n_whole, shards, strict=True)]
        self.n_whole = np.array(n_whole)
        self.ends = np.cumsum(self.n_whole + np.array(has_tail))  # number of windows up to the end of each shard
        self._tokens: list[np.ndarray] | None = None  # mapped when first used

    def __len__(self) -> int:
        """Return the number of windows."""
        return int(self.ends[-1])

    def epoch(self, generator: np.random.Generator, batch_rows: int) -> np.ndarray:
        """Return all window numbers in random order.

        Shape: (len(self),).
        """
        return generator.permutation(len(self))

    def reading_order(self) -> np.ndarray:
        """Return the window numbers in text order.

        Shape: (len(self),).
        """
        return np.arange(len(self))

    def __getitem__(self, index: RowIndex) -> Batch:
        """Return the windows by their numbers.

        Shapes: (B,) -> ids and targets, (B, T) each. The tensors are copies that belong to the caller.
        """
        index = row_numbers(index, len(self))
        rows = np.empty((len(index), self.context_length + 1), dtype=np.int64)
        shard_of = np.searchsorted(self.ends, index, side="right")
        for shard in np.unique(shard_of):
            here = shard_of == shard
            rows[here] = self._rows(shard, index[here] - (self.ends[shard - 1] if shard else 0))
        ids, targets = rows[:, :-1].copy(), rows[:, 1:].copy()  # (B, T) each
        np.maximum(ids, 0, out=ids)  # targets are padded with IGNORE_INDEX, but the embedding needs a valid id
        return {"ids": torch.from_numpy(ids), "targets": torch.from_numpy(targets)}

    def _rows(self, shard: int, index: np.ndarray) -> np.ndarray:
        """Gather windows of one shard.

        Shapes: (B,) numbers within it -> (B, T + 1) tokens.
        """
        tokens, n_whole, length = self._maps()[shard], self.n_whole[shard], self.context_length + 1
        whole = index < n_whole
        if whole.all():
            return sliding_window_view(tokens, length)[:: self.stride][index]
        rows = np.full((len(index), length), IGNORE_INDEX)
        if whole.any():
            rows[whole] = self._rows(shard, index[whole])
        tail = tokens[n_whole * self.stride :]
        rows[~whole, : len(tail)] = tail
        return rows

    def _maps(self) -> list[np.ndarray]:
        if self._tokens is None:
            self._tokens = [np.asarray(np.memmap(shard.path, self.dtype, mode="r")) for shard in self.shards]
        return self._tokens

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without mapped files.

        Each worker process maps the files itself.
        """
        return self.__dict__ | {"_tokens": None}
