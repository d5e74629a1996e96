"""The rows of a run on conversations.

T tokens of a row.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rich.console import RenderableType
from torch import Tensor

from gptlab.batch import Batch
from gptlab.data.chat.packing import PackedRows
from gptlab.data.chat.report import describe, render
from gptlab.data.chat.rows import EncodedSplit
from gptlab.data.protocol import Decode, Rows, SamplePrompt
from gptlab.data.row_table import show_targets
from gptlab.data.text.split import TEST, TRAIN, VAL
from gptlab.prompts.encoding import question_ids
from gptlab.prompts.protocol import Message, PromptStyle, plain_text
from gptlab.tokenizer.protocol import Tokenizer

N_SAMPLE_PROMPTS = 3  # questions of the validation set that a model answers during training


@dataclass(frozen=True)
class PreparedConversations:
    """Tokenised conversations with their splits, see `Prepared`."""

    splits: dict[str, EncodedSplit]  # train, val and perhaps test
    style: PromptStyle
    context_length: int
    packing: bool
    group_by_length: bool
    batch_size: int
    n_workers: int

    @cached_property
    def train(self) -> Rows:
        """Return the training set."""
        return self._rows(TRAIN)

    @cached_property
    def val(self) -> Rows:
        """Return the validation set."""
        return self._rows(VAL)

    @cached_property
    def test(self) -> Rows | None:
        """Return the test set, None without one."""
        return self._rows(TEST) if TEST in self.splits else None

    def _rows(self, name: str) -> Rows:
        if self.packing:
            return PackedRows(self.splits[name].rows, context_length=self.context_length)
        return self.splits[name].padded(group_by_length=self.group_by_length)

    @property
    def fingerprint(self) -> str:
        """Return a hash of the rows and their batches."""
        digest = hashlib.sha256(f"{self.packing} {self.context_length} {self.group_by_length}".encode())
        for split in self.splits.values():
            for row in split.rows:
                digest.update(len(row.ids).to_bytes(8) + row.ids.tobytes() + row.targets.tobytes())
        return digest.hexdigest()

    @property
    def labels(self) -> dict[str, int]:
        """Return no classes."""
        return {}

    def summary_line(self) -> str:
        """Return the tokens and conversations of each split."""
        train, val = self.splits[TRAIN], self.splits[VAL]
        packed = f" packed into {len(self.train):,} rows" if self.packing else ""
        return (
            f"training on {train.n_learned:,} of {train.n_tokens:,} tokens ({_examples(train)}{packed}), "
            f"validation on {val.n_learned:,} ({_examples(val)})"
        )

    def next_command(self, run: str, sample_prompt: str) -> str:
        """Return the command that chats with the model."""
        return f"gptlab chat run={run}"

    def sample_prompts(self, tokenizer: Tokenizer, prompt: str | None) -> list[SamplePrompt]:
        """Return the prompt, or the first validation questions."""
        if prompt is not None:
            return [self._sample_prompt([Message("user", prompt)], tokenizer)]
        first = self.splits[VAL].conversations[:N_SAMPLE_PROMPTS]
        return [self._sample_prompt(conversation.question, tokenizer) for conversation in first]

    def _sample_prompt(self, question: Sequence[Message], tokenizer: Tokenizer) -> SamplePrompt:
        ids = question_ids(self.style, question, tokenizer)
        return SamplePrompt("> " + plain_text(question).replace("\n", "\n> ") + "\n", ids, self.style.stop)

    def held_out(self) -> Iterator[str]:
        """Yield nothing: conversations are not running text."""
        return iter(())

    def show_row(self, batch: Batch, row: int, *, decode: Decode) -> str:
        """Return a row's ids, tokens and targets."""
        return show_targets(batch, row, decode)

    def describe(self, tokenizer: Tokenizer, *, n_examples: int, vectors: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return counts, padding and example rows."""
        return {
            "prompt": self.style.name,
            "vocab_size": tokenizer.vocab_size,
            "context_length": self.context_length,
            "batch_size": self.batch_size,
            "packing": self.packing,
            "group_by_length": self.group_by_length,
            **describe(
                self.splits,
                tokenizer,
                batch_size=self.batch_size,
                context_length=self.context_length,
                n_examples=n_examples,
            ),
        }

    def render(self, description: dict[str, Any]) -> RenderableType:
        """Return the report as tables, and the rows in colour."""
        return render(description)


def _examples(split: EncodedSplit) -> str:
    """Return how many conversations a split has, and rows if they differ."""
    n_conversations, n_rows = len(split.conversations), len(split.rows)
    rows = "" if n_rows == n_conversations else f" in {n_rows:,} rows, one an answer"
    return f"{n_conversations:,} conversations{rows}"
