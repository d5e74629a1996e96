"""The rows of a run on preference pairs.

N pairs, T tokens of a row.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.rule import Rule
from torch import Tensor

from gptlab.batch import Batch
from gptlab.data.chat.packing import PaddedRows, TokenRow
from gptlab.data.chat.prepared import PreparedConversations
from gptlab.data.padding import RowIndex, draw_epoch, longest_first, row_numbers
from gptlab.data.protocol import Decode, SamplePrompt
from gptlab.data.text.split import TEST, TRAIN, VAL
from gptlab.tokenizer.protocol import Tokenizer


@dataclass(frozen=True)
class PreparedPreferences:
    """Tokenised preference pairs with their splits, see `Prepared`."""

    chosen: PreparedConversations
    rejected: PreparedConversations  # answers to the same questions in the same order

    @cached_property
    def train(self) -> "PairRows":
        """Return the training set."""
        return self._rows(TRAIN)

    @cached_property
    def val(self) -> "PairRows":
        """Return the validation set."""
        return self._rows(VAL)

    @cached_property
    def test(self) -> "PairRows | None":
        """Return the test set, None without one."""
        return self._rows(TEST) if TEST in self.chosen.splits else None

    def _rows(self, name: str) -> "PairRows":
        chosen, rejected = self.chosen.splits[name].rows, self.rejected.splits[name].rows
        return PairRows(chosen, rejected, group_by_length=self.chosen.group_by_length)

    @property
    def batch_size(self) -> int:
        """Return the pairs of a batch on each device."""
        return self.chosen.batch_size

    @property
    def n_workers(self) -> int:
        """Return how many processes load batches."""
        return self.chosen.n_workers

    @property
    def fingerprint(self) -> str:
        """Return a hash of the rows and their batches."""
        return hashlib.sha256((self.chosen.fingerprint + self.rejected.fingerprint).encode()).hexdigest()

    @property
    def labels(self) -> dict[str, int]:
        """Return no classes."""
        return {}

    def summary_line(self) -> str:
        """Return the pairs and answer tokens of the splits."""
        chosen, rejected = self.chosen.splits[TRAIN].n_learned, self.rejected.splits[TRAIN].n_learned
        return (
            f"training on {len(self.train):,} pairs of answers ({chosen:,} tokens chosen, {rejected:,} rejected), "
            f"validation on {len(self.val):,}"
        )

    def next_command(self, run: str, sample_prompt: str) -> str:
        """Return the command that chats with the model."""
        return self.chosen.next_command(run, sample_prompt)

    def sample_prompts(self, tokenizer: Tokenizer, prompt: str | None) -> list[SamplePrompt]:
        """Return the prompt, or the first validation questions."""
        return self.chosen.sample_prompts(tokenizer, prompt)

    def held_out(self) -> Iterator[str]:
        """Yield nothing: conversations are not running text."""
        return iter(())

    def show_row(self, batch: Batch, row: int, *, decode: Decode) -> str:
        """Return a row's ids, tokens and targets.

        The chosen rows come first.
        """
        return self.chosen.show_row(batch, row, decode=decode)

    def describe(self, tokenizer: Tokenizer, *, n_examples: int, vectors: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the reports of both kinds of answers."""
        answers = {"chosen": self.chosen, "rejected": self.rejected}
        return {
            name: data.describe(tokenizer, n_examples=n_examples, vectors=vectors) for name, data in answers.items()
        }

    def render(self, description: dict[str, Any]) -> RenderableType:
        """Return both reports, one below the other."""
        return Group(
            *(
                shown
                for name, report in description.items()
                for shown in (Rule(name), getattr(self, name).render(report))
            )
        )


class PairRows:
    """N pairs of chosen and rejected rows.

    A batch is the chosen rows stacked over the rejected ones.

    Args:
        group_by_length: puts pairs of similar length into the same batches of an epoch.
    """

    def __init__(self, chosen: Sequence[TokenRow], rejected: Sequence[TokenRow], *, group_by_length: bool) -> None:
        self.rows, self.group_by_length = PaddedRows([*chosen, *rejected], group_by_length=False), group_by_length
        self.lengths = np.array([max(len(a.ids), len(b.ids)) for a, b in zip(chosen, rejected, strict=True)])  # (N,)

    def __len__(self) -> int:
        """Return N."""
        return len(self.lengths)

    def __getitem__(self, index: RowIndex) -> Batch:
        """Return these pairs' ids and targets.

        (B,) -> (2B, T) each
        """
        numbers = row_numbers(index, len(self))
        return self.rows[np.concatenate([numbers, numbers + len(self)])]

    def epoch(self, generator: np.random.Generator, batch_rows: int) -> np.ndarray:
        """Return every pair number once in random order.   -> (N,)"""
        return draw_epoch(
            len(self), self.lengths, generator, batch_rows=batch_rows, group_by_length=self.group_by_length
        )

    def reading_order(self) -> np.ndarray:
        """Return the pair numbers, the longest first.   -> (N,)"""
        return longest_first(self.lengths)
