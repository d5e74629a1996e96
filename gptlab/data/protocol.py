"""What every kind of data becomes, and all that a run knows of it.   B batch, T tokens."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from rich.console import RenderableType
from torch import Tensor

from gptlab.batch import Batch
from gptlab.prompts.protocol import PromptStyle
from gptlab.tokenizer.protocol import Tokenizer, TrainingText


class Rows(Protocol):
    """Examples by their numbers. Pickles small, for worker processes."""

    def __len__(self) -> int:
        """Examples, not batches; of a training split also how many an epoch sees."""

    def __getitem__(self, index: np.ndarray) -> Batch:
        """(B,) numbers -> their batch, tensors that belong to the caller."""

    def epoch(self, generator: np.random.Generator, batch_rows: int) -> np.ndarray:
        """(len(self),) numbers in the order in which an epoch learns from them.

        Args:
            batch_rows: how many are taken at a time, over all devices; those of one batch may be chosen to be alike.
        """

    def reading_order(self) -> np.ndarray:
        """(len(self),) every number once, in the order in which they are measured."""


class SamplePrompt(NamedTuple):
    """Where a sample begins that a model writes while it learns."""

    shown: str  # to a person
    ids: list[int]  # what the model goes on from
    stop: tuple[str, ...]  # texts that end the sample


class Prepared(Protocol):
    """What a run trains on and is measured by."""

    @property
    def train(self) -> Rows:
        """What it learns from."""

    @property
    def val(self) -> Rows:
        """What says how it goes."""

    @property
    def test(self) -> Rows | None:
        """What is looked at once, at the end; None where data has no such part."""

    @property
    def batch_size(self) -> int:
        """Rows of a batch, on each device."""

    @property
    def n_workers(self) -> int:
        """Processes that load batches; 0 is the run's own."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the rows or their order do."""

    @property
    def verb(self) -> str:
        """With what a run of it is used: generate, classify or chat."""

    @property
    def labels(self) -> dict[str, int]:
        """The classes in their order, and how many training rows each has; empty where rows have none."""

    def told(self) -> str:
        """From how much a run learns and on how much it is measured, in a line."""

    def sample_prompts(self, tokenizer: Tokenizer, prompt: str | None) -> list[SamplePrompt]:
        """Where samples begin: at a prompt of the user's, or at the data's own; none where nothing is to be written."""

    def held_out(self) -> Iterator[str]:
        """The held-out text piece by piece, to be asked about; nothing where rows are no running text."""

    def describe(self, tokenizer: Tokenizer, *, n_examples: int, vectors: Mapping[str, Tensor]) -> dict[str, Any]:
        """What a run would learn from, in plain values.

        Args:
            n_examples: rows that are shown.
            vectors: the first training row's way into the model: name -> (T, D).
        """

    def render(self, description: dict[str, Any]) -> RenderableType:
        """The same, to read."""


class Data(Protocol):
    """What `data=` names."""

    gives: tuple[str, ...]  # the keys of its batches

    def training_text(self) -> TrainingText:
        """The training part, for a tokenizer to learn from."""

    def prepare(self, tokenizer: Tokenizer, *, context_length: int, style: PromptStyle) -> Prepared:
        """The rows of a run.

        Args:
            context_length: the most tokens of a row.
            style: how conversations are written; text and labelled rows have none.
        """
