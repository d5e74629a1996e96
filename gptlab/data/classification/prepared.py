"""Labelled rows that a run trains on and is measured by."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import RenderableType
from torch import Tensor

from gptlab.data.classification.rows import LabelledRows
from gptlab.data.classification.split import LabelledSplits
from gptlab.data.protocol import SamplePrompt
from gptlab.tokenizer.protocol import Tokenizer

_FEW = 6  # classes whose rows are counted one by one in a line


@dataclass(frozen=True)
class PreparedLabelled:
    """What a run trains on and is measured by, see `Prepared`."""

    train: LabelledRows
    val: LabelledRows
    test: LabelledRows | None
    batch_size: int
    n_workers: int
    classes: list[str]
    parts: LabelledSplits  # the examples behind the rows

    @property
    def splits(self) -> dict[str, LabelledRows]:
        """train, val and, where there is one, test."""
        parts = {"train": self.train, "val": self.val, "test": self.test}
        return {name: rows for name, rows in parts.items() if rows is not None}

    @property
    def fingerprint(self) -> str:
        """See `Prepared`."""
        return hashlib.sha256("".join(rows.fingerprint for rows in self.splits.values()).encode()).hexdigest()

    @property
    def verb(self) -> str:
        """See `Prepared`."""
        return "classify"

    @property
    def labels(self) -> dict[str, int]:
        """See `Prepared`."""
        counts = np.bincount(self.train.labels, minlength=len(self.classes))
        return dict(zip(self.classes, counts.tolist(), strict=True))

    def told(self) -> str:
        """How many rows of which classes."""
        few = ", ".join(f"{n:,} {name}" for name, n in self.labels.items())
        many = f"{len(self.labels)} classes, {min(self.labels.values()):,} to {max(self.labels.values()):,} rows each"
        tested = "" if self.test is None else f", is tested on {len(self.test):,}"
        return (
            f"learns from {len(self.train):,} rows ({few if len(self.labels) <= _FEW else many}), "
            f"is measured on {len(self.val):,}{tested}"
        )

    def sample_prompts(self, tokenizer: Tokenizer, prompt: str | None) -> list[SamplePrompt]:
        """Nothing is to be written."""
        return []

    def held_out(self) -> Iterator[str]:
        """Rows are no running text."""
        return iter(())

    def describe(self, tokenizer: Tokenizer, *, n_examples: int, vectors: Mapping[str, Tensor]) -> dict[str, Any]:
        """Classes, lengths, padding, what is held out, some rows."""
        from gptlab.data.classification.report import describe

        return describe(self, tokenizer, n_examples=n_examples)

    def render(self, description: dict[str, Any]) -> RenderableType:
        """As tables."""
        from gptlab.data.classification.report import render

        return render(description)
