"""The rows of a run on labelled texts."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import RenderableType
from torch import Tensor

from gptlab.batch import Batch
from gptlab.data.classification.report import describe, render
from gptlab.data.classification.rows import LabelledRows
from gptlab.data.classification.split import LabelledSplits
from gptlab.data.protocol import Decode, SamplePrompt
from gptlab.data.row_table import show_label
from gptlab.tokenizer.protocol import Tokenizer

MAX_LISTED_CLASSES = 6  # with more, the summary line gives only the smallest and the largest


@dataclass(frozen=True)
class PreparedLabelled:
    """Tokenised labelled texts with their splits, see `Prepared`."""

    train: LabelledRows
    val: LabelledRows
    test: LabelledRows | None
    batch_size: int
    n_workers: int
    classes: list[str]
    examples: LabelledSplits  # the examples behind the rows

    @property
    def splits(self) -> dict[str, LabelledRows]:
        """Return train, val and, if present, test."""
        splits = {"train": self.train, "val": self.val, "test": self.test}
        return {name: rows for name, rows in splits.items() if rows is not None}

    @property
    def fingerprint(self) -> str:
        """Return a hash of the rows and their order."""
        return hashlib.sha256("".join(rows.fingerprint for rows in self.splits.values()).encode()).hexdigest()

    @property
    def labels(self) -> dict[str, int]:
        """Return the classes in order with their training row counts."""
        counts = np.bincount(self.train.labels, minlength=len(self.classes))
        return dict(zip(self.classes, counts.tolist(), strict=True))

    def summary_line(self) -> str:
        """Return the rows of each split and of each class."""
        few = ", ".join(f"{n:,} {name}" for name, n in self.labels.items())
        many = f"{len(self.labels)} classes, {min(self.labels.values()):,} to {max(self.labels.values()):,} rows each"
        tested = "" if self.test is None else f", test on {len(self.test):,}"
        return (
            f"training on {len(self.train):,} rows ({few if len(self.labels) <= MAX_LISTED_CLASSES else many}), "
            f"validation on {len(self.val):,}{tested}"
        )

    def next_command(self, run: str, sample_prompt: str) -> str:
        """Return the command that classifies a text."""
        return f'gptlab classify run={run} text="..."'

    def sample_prompts(self, tokenizer: Tokenizer, prompt: str | None) -> list[SamplePrompt]:
        """Return nothing: a classifier generates no text."""
        return []

    def held_out(self) -> Iterator[str]:
        """Yield nothing: rows are not running text."""
        return iter(())

    def show_row(self, batch: Batch, row: int, *, decode: Decode) -> str:
        """Return a row's ids, tokens and class."""
        return show_label(batch, row, decode, self.classes)

    def describe(self, tokenizer: Tokenizer, *, n_examples: int, vectors: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return classes, lengths, padding, held-out groups and some rows."""
        return {
            "vocab_size": tokenizer.vocab_size,
            "max_tokens": self.train.max_tokens,
            "batch_size": self.batch_size,
            **describe(
                self.splits,
                self.examples,
                self.classes,
                tokenizer,
                batch_size=self.batch_size,
                n_examples=n_examples,
            ),
        }

    def render(self, description: dict[str, Any]) -> RenderableType:
        """Return the report as tables."""
        return render(description)
