"""Translation pairs, from a table to the rows of a run."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

from rich.console import RenderableType
from torch import Tensor

from gptlab.batch import Batch
from gptlab.data.chat.packing import PaddedRows, TokenRow, as_row
from gptlab.data.files.faults import Faults
from gptlab.data.files.records import read_records
from gptlab.data.files.source import FileSource
from gptlab.data.files.tables import TableFormat
from gptlab.data.protocol import Decode, EvaluationRequest, EvaluationSet, Question, SamplePrompt, ScoredRows
from gptlab.data.row_table import show_targets
from gptlab.errors import UserError
from gptlab.prompts.protocol import PromptStyle
from gptlab.tokenizer.protocol import Tokenizer, TrainingText


class Pair(NamedTuple):
    source: str
    target: str

    @property
    def question(self) -> str:
        return f"{self.source} = "


def encode(pair: Pair, tokenizer: Tokenizer, context_length: int) -> TokenRow:
    """Rows whose targets are the translation and its end."""
    assert tokenizer.eot_id is not None
    question, answer = tokenizer.encode(pair.question), [*tokenizer.encode(pair.target), tokenizer.eot_id]
    ids, learned = [*question, *answer], [False] * len(question) + [True] * len(answer)
    return as_row(ids[: context_length + 1], learned[: context_length + 1])


class Texts:
    """The training text of a tokenizer."""

    def __init__(self, pairs: list[Pair]) -> None:
        self.pairs = pairs

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(repr(self.pairs).encode()).hexdigest()

    def __iter__(self) -> Iterator[str]:
        return (f"{pair.question}{pair.target}\n" for pair in self.pairs)


class TranslationData:
    """See `gptlab.data.protocol.Data`."""

    gives: ClassVar[tuple[str, ...]] = ("ids", "targets")
    has_conversations: ClassVar[bool] = False

    def __init__(self, *, path: str, n_val: int, batch_size: int, cache_dir: str, max_expansion: float) -> None:
        self.files = FileSource.of(path, None, cache_dir, max_expansion)
        self.path, self.n_val, self.batch_size = path, n_val, batch_size

    @cached_property
    def splits(self) -> dict[str, list[Pair]]:
        records = read_records(
            self.files.collect((".tsv",)), table=TableFormat(None, None, None), faults=Faults(on_error=None)
        )
        pairs = [Pair(record.text("source", "source"), record.text("target", "target")) for record in records]
        return {"train": pairs[: -self.n_val], "val": pairs[-self.n_val :], "all": pairs}

    def training_text(self) -> TrainingText:
        return Texts(self.splits["train"])

    def prepare(self, tokenizer: Tokenizer, *, context_length: int, style: PromptStyle) -> "PreparedTranslations":
        rows = {name: [encode(pair, tokenizer, context_length) for pair in self.splits[name]] for name in self.splits}
        return PreparedTranslations(
            PaddedRows(rows["train"], group_by_length=False),
            PaddedRows(rows["val"], group_by_length=False),
            self.batch_size,
            self.training_text().fingerprint,
            self.splits["val"],
        )

    def evaluation_set(self, request: EvaluationRequest) -> EvaluationSet:
        if request.split not in self.splits:
            raise UserError(f"the data has no {request.split} split: choose train, val or all")
        pairs, tokenizer = self.splits[request.split], request.tokenizer
        rows = PaddedRows([encode(pair, tokenizer, request.max_tokens) for pair in pairs], group_by_length=False)
        questions = [Question(pair.question, tokenizer.encode(pair.question), pair.target) for pair in pairs]
        scored = ScoredRows(rows, int(rows.lengths.max()), scored_by="tokens")
        return EvaluationSet(scored=scored, questions=questions[: request.n_answers])


@dataclass(frozen=True)
class PreparedTranslations:
    """See `gptlab.data.protocol.Prepared`."""

    train: PaddedRows
    val: PaddedRows
    batch_size: int
    fingerprint: str
    val_pairs: list[Pair]
    test: None = None
    n_workers: int = 0

    @property
    def labels(self) -> dict[str, int]:
        return {}

    def summary_line(self) -> str:
        return f"training on {len(self.train)} translations, validation on {len(self.val)}"

    def next_command(self, run: str, sample_prompt: str) -> str:
        return f"gptlab generate run={run} prompt={sample_prompt}"

    def sample_prompts(self, tokenizer: Tokenizer, prompt: str | None) -> list[SamplePrompt]:
        question = f"{prompt} = " if prompt else self.val_pairs[0].question
        return [SamplePrompt(question, tokenizer.encode(question), stop=())]

    def held_out(self) -> Iterator[str]:
        return iter(())

    def show_row(self, batch: Batch, row: int, *, decode: Decode) -> str:
        return "a translation: " + show_targets(batch, row, decode)

    def describe(self, tokenizer: Tokenizer, *, n_examples: int, vectors: Mapping[str, Tensor]) -> dict[str, Any]:
        return {"pairs": len(self.train) + len(self.val), "longest": int(self.train.lengths.max())}

    def render(self, description: dict[str, Any]) -> RenderableType:
        return f"{description['pairs']} translations"
