"""Preference pairs as the rows of a run.   N pairs, T tokens of a row."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from rich.console import RenderableType
from torch import Tensor

from gptlab.batch import Batch
from gptlab.data.chat.packing import PaddedRows, TokenRow
from gptlab.data.chat.prepared import PreparedConversations
from gptlab.data.padding import batch_similar_lengths, longest_first
from gptlab.data.protocol import SamplePrompt
from gptlab.data.text.split import TEST, TRAIN, VAL
from gptlab.tokenizer.protocol import Tokenizer


@dataclass(frozen=True)
class PreparedPreferences:
    """What a run trains on and is measured by, see `Prepared`."""

    chosen: PreparedConversations
    rejected: PreparedConversations  # to the same questions in the same order

    @cached_property
    def train(self) -> "PairRows":
        """What it learns from."""
        return self._rows(TRAIN)

    @cached_property
    def val(self) -> "PairRows":
        """What says how it goes."""
        return self._rows(VAL)

    @cached_property
    def test(self) -> "PairRows | None":
        """What is looked at once."""
        return self._rows(TEST) if TEST in self.chosen.parts else None

    def _rows(self, name: str) -> "PairRows":
        sides = (self.chosen.parts[name].rows, self.rejected.parts[name].rows)
        return PairRows(*sides, group_by_length=self.chosen.group_by_length)

    @property
    def batch_size(self) -> int:
        """Pairs."""
        return self.chosen.batch_size

    @property
    def n_workers(self) -> int:
        """See `Prepared`."""
        return self.chosen.n_workers

    @property
    def fingerprint(self) -> str:
        """Changes whenever a row does, or how rows come together."""
        return hashlib.sha256((self.chosen.fingerprint + self.rejected.fingerprint).encode()).hexdigest()

    @property
    def verb(self) -> str:
        """See `Prepared`."""
        return "chat"

    @property
    def labels(self) -> dict[str, int]:
        """There are none."""
        return {}

    def told(self) -> str:
        """How many pairs, and how many tokens their answers have."""
        chosen, rejected = self.chosen.parts[TRAIN].n_learned, self.rejected.parts[TRAIN].n_learned
        return (
            f"learns from {len(self.train):,} pairs of answers ({chosen:,} tokens chosen, {rejected:,} rejected), "
            f"is measured on {len(self.val):,}"
        )

    def sample_prompts(self, tokenizer: Tokenizer, prompt: str | None) -> list[SamplePrompt]:
        """The first questions of the validation part; or the prompt, as a question."""
        return self.chosen.sample_prompts(tokenizer, prompt)

    def held_out(self) -> Iterator[str]:
        """Nothing: conversations are no running text."""
        return iter(())

    def describe(self, tokenizer: Tokenizer, *, n_examples: int, vectors: Mapping[str, Tensor]) -> dict[str, Any]:
        """Both sides as an assistant's answers."""
        sides = {"chosen": self.chosen, "rejected": self.rejected}
        return {name: side.describe(tokenizer, n_examples=n_examples, vectors=vectors) for name, side in sides.items()}

    def render(self, description: dict[str, Any]) -> RenderableType:
        """One after the other."""
        from rich.console import Group
        from rich.rule import Rule

        sides = [(name, getattr(self, name).render(side)) for name, side in description.items()]
        return Group(*(part for name, side in sides for part in (Rule(name), side)))


class PairRows:
    """N pairs; a batch of them is the chosen rows stacked over the rejected ones.

    Args:
        group_by_length: an epoch puts pairs of like length into the same batches.
    """

    def __init__(self, chosen: Sequence[TokenRow], rejected: Sequence[TokenRow], *, group_by_length: bool) -> None:
        self.rows, self.group_by_length = PaddedRows([*chosen, *rejected], group_by_length=False), group_by_length
        self.lengths = np.array([max(len(a.ids), len(b.ids)) for a, b in zip(chosen, rejected, strict=True)])  # (N,)

    def __len__(self) -> int:
        """N"""
        return len(self.lengths)

    def __getitem__(self, index: np.ndarray) -> Batch:
        """(B,) numbers -> ids and targets, (2B, T) each."""
        return self.rows[np.concatenate([index, index + len(self)])]

    def epoch(self, generator: np.random.Generator, batch_rows: int) -> np.ndarray:
        """Every pair once, in an order of chance."""
        order = generator.permutation(len(self))
        return (
            batch_similar_lengths(order, self.lengths, generator, batch_rows=batch_rows)
            if self.group_by_length
            else order
        )

    def reading_order(self) -> np.ndarray:
        """The longest first."""
        return longest_first(self.lengths)
