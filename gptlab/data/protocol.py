"""The protocols of data, prepared data and rows.

B batch, T tokens.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from rich.console import RenderableType
from torch import Tensor

from gptlab.batch import Batch
from gptlab.data.padding import RowIndex
from gptlab.data.text.windows import Windows
from gptlab.prompts.protocol import PromptStyle
from gptlab.tokenizer.protocol import Tokenizer, TrainingText

Decode = Callable[[list[int]], str]  # ids -> text


class Rows(Protocol):
    """Examples by their numbers. Pickles small, for worker processes."""

    def __len__(self) -> int:
        """Return the number of rows, which is an epoch's length."""

    def __getitem__(self, index: RowIndex) -> Batch:
        """Return the batch of these rows.   (B,) -> Batch

        The caller owns its tensors.
        """

    def epoch(self, generator: np.random.Generator, batch_rows: int) -> np.ndarray:
        """Return the row numbers in one epoch's order.

        -> (len(self),)

        Args:
            batch_rows: rows of a step's batch over all devices; a batch may be filled with rows of similar length.
        """

    def reading_order(self) -> np.ndarray:
        """Return every row number once, in validation order.   -> (len(self),)"""


class SamplePrompt(NamedTuple):
    """The prompt of a sample generated during training."""

    shown: str  # the prompt as a person reads it
    ids: list[int]  # the ids that the model continues
    stop: tuple[str, ...]  # texts that end the sample


class Prepared(Protocol):
    """Tokenised data with its splits, ready for a run."""

    @property
    def train(self) -> Rows:
        """Return the training set."""

    @property
    def val(self) -> Rows:
        """Return the validation set."""

    @property
    def test(self) -> Rows | None:
        """Return the test set, None without one.

        It is read once, after training.
        """

    @property
    def batch_size(self) -> int:
        """Return the rows of a batch on each device."""

    @property
    def n_workers(self) -> int:
        """Return how many processes load batches.

        0 loads them in the run's own process.
        """

    @property
    def fingerprint(self) -> str:
        """Return a hash of the rows and their order."""

    @property
    def labels(self) -> dict[str, int]:
        """Return each class with its training row count.

        In the order of the classes; empty without classes.
        """

    def summary_line(self) -> str:
        """Return the sizes of the splits in one line."""

    def next_command(self, run: str, sample_prompt: str) -> str:
        """Return the command that uses a trained run.

        Args:
            run: the run's folder, quoted for a shell.
            sample_prompt: the beginning of the first of `sample_prompts`, quoted for a shell.
        """

    def sample_prompts(self, tokenizer: Tokenizer, prompt: str | None) -> list[SamplePrompt]:
        """Return the prompts of training samples.

        The list is empty if the head generates no text.

        Args:
            prompt: the user's own; None takes prompts from the validation set.
        """

    def held_out(self) -> Iterator[str]:
        """Yield the held-out text, for probes.

        Yields nothing if rows are not running text.
        """

    def show_row(self, batch: Batch, row: int, *, decode: Decode) -> str:
        """Return one row of a batch as text.

        TensorBoard's first-batch page shows it.
        """

    def describe(self, tokenizer: Tokenizer, *, n_examples: int, vectors: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the report of `gptlab data` as plain values.

        Args:
            n_examples: how many rows are shown.
            vectors: the first training row's embeddings by name, (T, D) each.
        """

    def render(self, description: dict[str, Any]) -> RenderableType:
        """Return a report as tables for a terminal."""


class EvaluationRequest(NamedTuple):
    """The split to measure, and how it is read."""

    split: str  # train, val, test or all
    tokenizer: Tokenizer
    style: Callable[[], PromptStyle]  # builds the run's prompt style, which only conversations need
    max_tokens: int  # maximum tokens that the model reads at once
    context_length: int  # tokens of a window of running text, at most max_tokens
    stride: int  # tokens of running text that each window scores anew
    classes: Sequence[str]  # the run's classes in order; empty without classes
    n_answers: int | None  # questions that an assistant answers; None is all


class Question(NamedTuple):
    """A question to an assistant, and the reference answer."""

    text: str  # as a person reads it
    prompt: list[int]  # as the model reads it
    reference: str


class RunningText(NamedTuple):
    """A split of a text, as windows and as documents."""

    windows: Windows
    documents: Iterable[str]  # the text itself, from which probes are made
    first_words: Callable[[], str]  # returns the prompt of samples, if the user gives none


class ScoredRows(NamedTuple):
    """A split of rows that are scored one by one."""

    rows: Rows
    row_tokens: int  # of the longest row
    scored_by: Literal["head", "tokens", "classes", "pairs"]
    # What is scored: the head's own metrics over all rows, or each row's language-model loss, class, or rewards as a
    # pair of answers, with bootstrap intervals over rows.
    items: Sequence[dict[str, Any]] = ()  # description of each row, stored beside its scores
    classes: Sequence[str] = ()  # names of the labels; empty without labels


class EvaluationSet(NamedTuple):
    """The parts of a split that `gptlab evaluate` measures.

    Every part that is present is measured.
    """

    text: RunningText | None = None
    scored: ScoredRows | None = None
    questions: Sequence[Question] = ()  # for an assistant, whose answers are compared with the references
    stop: Sequence[str] = ()  # texts that end an answer


class Data(Protocol):
    """A kind of data, chosen by `data=`.

    A new kind of data is a class with these members; training, `gptlab data`, `gptlab evaluate` and TensorBoard's pages
    use nothing else.
    """

    gives: tuple[str, ...]  # the Batch keys of its rows, compared with the head's `needs`
    has_conversations: bool  # whether its rows are conversations, written in the run's prompt style

    @property
    def path(self) -> str | list[str]:
        """Return where the data comes from, for reports."""

    def training_text(self) -> TrainingText:
        """Return the training text, for a tokenizer."""

    def prepare(self, tokenizer: Tokenizer, *, context_length: int, style: PromptStyle) -> Prepared:
        """Return the tokenised rows of a run.

        Args:
            context_length: maximum tokens per row.
            style: how conversations are written; other kinds of data ignore it.
        """

    def evaluation_set(self, request: EvaluationRequest) -> EvaluationSet:
        """Return the parts of a split to measure.

        Raises:
            UserError: there is no such split, or the model cannot read it.
        """


class LabelledTexts(Data, Protocol):
    """Data whose runs classify texts."""

    def text_rows(
        self, texts: Sequence[str], *, classes: Sequence[str], tokenizer: Tokenizer, context_length: int
    ) -> ScoredRows:
        """Return unlabelled texts as rows."""
