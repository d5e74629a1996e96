"""Tokenised texts of classes -> batches.   B batch, T tokens, N rows, C classes."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from gptlab.batch import Batch
from gptlab.data.padding import batch_similar_lengths, longest_first, padded


class LabelledRows(Dataset[Batch]):
    """N texts and their classes, padded at the right.

    Args:
        ids: of each text.
        labels: (N,), the number of its class.
        fill: the id that pads.
        max_tokens: what is longer is cut.
        pad_to: T; None is the longest row's of the batch.
        group_by_length: rows of like lengths share a batch.
        even: an epoch sees every class equally often.
    """

    def __init__(
        self,
        ids: Sequence[np.ndarray],
        labels: np.ndarray,
        *,
        fill: int,
        max_tokens: int,
        pad_to: int | None,
        group_by_length: bool,
        even: bool,
    ) -> None:
        self.labels, self.fill, self.max_tokens, self.pad_to = labels, fill, max_tokens, pad_to
        self.group_by_length, self.even = group_by_length, even
        self.n_cut = sum(len(row) > max_tokens for row in ids)
        self.lengths = np.array([min(len(row), max_tokens) for row in ids])
        self.ends = np.cumsum(self.lengths)
        self.tokens = np.concatenate([row[:max_tokens] for row in ids])

    def __len__(self) -> int:
        """N"""
        return len(self.labels)

    @property
    def fingerprint(self) -> str:
        """Changes with the rows, with their padding, and with their order in an epoch."""
        how = f"{self.fill} {self.pad_to} {self.group_by_length} {self.even}".encode()
        parts = (self.tokens.astype("<u4"), self.ends.astype("<i8"), self.labels.astype("<i8"))
        return hashlib.sha256(b"".join([how, *(part.tobytes() for part in parts)])).hexdigest()

    def row(self, number: int) -> np.ndarray:
        """The ids of one text.   () -> (T,)"""
        return self.tokens[self.ends[number] - self.lengths[number] : self.ends[number]]

    def __getitem__(self, index: np.ndarray) -> Batch:
        """(B,) numbers -> ids (B, T), lengths (B,) and labels (B,)"""
        return Batch(
            ids=padded([self.row(number) for number in index], fill=self.fill, n_tokens=self.pad_to),
            lengths=torch.from_numpy(self.lengths[index]),
            labels=torch.from_numpy(self.labels[index]),
        )

    def epoch(self, generator: np.random.Generator, batch_rows: int) -> np.ndarray:
        """Every row once, or every class equally often, in an order of chance.   -> (N,)"""
        order = generator.permutation(self._evenly(generator) if self.even else len(self))
        return (
            batch_similar_lengths(order, self.lengths, generator, batch_rows=batch_rows)
            if self.group_by_length
            else order
        )

    def reading_order(self) -> np.ndarray:
        """The longest first where lengths matter, else as they are split."""
        return longest_first(self.lengths) if self.group_by_length else np.arange(len(self))

    def _evenly(self, generator: np.random.Generator) -> np.ndarray:
        """N / C rows of each class: of a large one some, of a small one every row again and again.   -> (N,)"""
        classes = generator.permutation(np.unique(self.labels))  # by chance, which of them has one row more than others
        shares = len(self) // len(classes) + (np.arange(len(classes)) < len(self) % len(classes))
        drawn = []
        for label, share in zip(classes, shares, strict=True):
            members = np.flatnonzero(self.labels == label)
            again, rest = divmod(share, len(members))
            drawn += [np.tile(members, again), generator.permutation(members)[:rest]]
        return np.concatenate(drawn)
