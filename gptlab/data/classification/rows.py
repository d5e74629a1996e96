"""Tokenised labelled texts -> batches.

B batch, T tokens, N rows, C classes.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from gptlab.batch import Batch
from gptlab.data.padding import RowIndex, draw_epoch, longest_first, pad_rows, row_numbers
from gptlab.tokenizer.protocol import Tokenizer
from gptlab.tokenizer.text import prepend_bos


class LabelledRows(Dataset[Batch]):
    """N texts and their classes, padded at the right.

    Args:
        ids: token ids of each text.
        labels: (N,), the number of the class of each text.
        fill: the id of padding.
        max_tokens: longer texts are cut to this many tokens.
        pad_to: T; None pads to the longest row of the batch.
        group_by_length: puts rows of similar length into the same batches.
        even: draws every class equally often in an epoch.
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
        self.n_cut, self.longest = sum(len(row) > max_tokens for row in ids), max(map(len, ids))  # before the cut
        self.lengths = np.array([min(len(row), max_tokens) for row in ids])
        self.ends = np.cumsum(self.lengths)
        self.tokens = np.concatenate([row[:max_tokens] for row in ids])

    def __len__(self) -> int:
        """Return N."""
        return len(self.labels)

    def cut_note(self) -> str | None:
        """Return a sentence about the texts that are not read whole; None if all are."""
        if not self.n_cut:
            return None
        if len(self) == 1:
            return f"the text has {self.longest:,} tokens, the first {self.max_tokens:,} are read"
        return (
            f"{self.n_cut:,} of {len(self):,} texts have more than {self.max_tokens:,} tokens, the longest "
            f"{self.longest:,}: the first {self.max_tokens:,} of each are read"
        )

    @property
    def fingerprint(self) -> str:
        """Return a hash of rows, padding and order."""
        settings = f"{self.fill} {self.pad_to} {self.group_by_length} {self.even}".encode()
        parts = (self.tokens.astype("<u4"), self.ends.astype("<i8"), self.labels.astype("<i8"))
        return hashlib.sha256(b"".join([settings, *(part.tobytes() for part in parts)])).hexdigest()

    def row(self, number: int) -> np.ndarray:
        """Return the ids of one text.   () -> (T,)"""
        return self.tokens[self.ends[number] - self.lengths[number] : self.ends[number]]

    def __getitem__(self, index: RowIndex) -> Batch:
        """Return the batch of these rows.

        (B,) -> ids (B, T), lengths (B,) and labels (B,)
        """
        index = row_numbers(index, len(self))
        return Batch(
            ids=pad_rows([self.row(number) for number in index], fill=self.fill, n_tokens=self.pad_to),
            lengths=torch.from_numpy(self.lengths[index]),
            labels=torch.from_numpy(self.labels[index]),
        )

    def epoch(self, generator: np.random.Generator, batch_rows: int) -> np.ndarray:
        """Return the row numbers in random order.

        -> (N,), every class equally often if `even`.
        """
        rows = self._evenly(generator) if self.even else len(self)
        return draw_epoch(rows, self.lengths, generator, batch_rows=batch_rows, group_by_length=self.group_by_length)

    def reading_order(self) -> np.ndarray:
        """Return every row number, once.

        -> (N,), the longest first if grouped by length.
        """
        return longest_first(self.lengths) if self.group_by_length else np.arange(len(self))

    def _evenly(self, generator: np.random.Generator) -> np.ndarray:
        """Return N / C rows of each class.

        -> (N,), rows of small classes repeated.
        """
        classes = generator.permutation(np.unique(self.labels))  # random, since some classes get one row more
        shares = len(self) // len(classes) + (np.arange(len(classes)) < len(self) % len(classes))
        drawn = []
        for label, share in zip(classes, shares, strict=True):
            members = np.flatnonzero(self.labels == label)
            again, rest = divmod(share, len(members))
            drawn += [np.tile(members, again), generator.permutation(members)[:rest]]
        return np.concatenate(drawn)


def tokenised_rows(
    texts: Sequence[str],
    labels: np.ndarray,
    *,
    tokenizer: Tokenizer,
    max_tokens: int,
    pad_to: int | None,
    group_by_length: bool,
    even: bool,
) -> LabelledRows:
    """Return the rows of texts, each with the begin of a text if the tokenizer has one.

    Arguments as for `LabelledRows`.
    """
    return LabelledRows(
        [np.array(prepend_bos(tokenizer, tokenizer.encode(text)), np.uint32) for text in texts],
        labels,
        fill=tokenizer.eot_id or 0,
        max_tokens=pad_to or max_tokens,
        pad_to=pad_to,
        group_by_length=group_by_length,
        even=even,
    )
