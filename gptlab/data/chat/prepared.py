"""Conversations as the rows of a run.   T tokens of a row."""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from rich.console import RenderableType
from torch import Tensor

from gptlab.batch import IGNORE_INDEX
from gptlab.data.chat.packing import PackedRows, PaddedRows, TokenRow, as_row
from gptlab.data.chat.readers import Conversation
from gptlab.data.protocol import Rows, SamplePrompt
from gptlab.data.text.split import TEST, TRAIN, VAL
from gptlab.errors import UserError
from gptlab.prompts.encoding import Encoded, encode_pieces
from gptlab.prompts.protocol import Message, PromptStyle, plain_text
from gptlab.tokenizer.protocol import Tokenizer

log = logging.getLogger(__name__)

N_OPENINGS = 3  # questions of the validation part that a model answers while it learns


class EncodedSplit(NamedTuple):
    """One side of the split, a row a conversation."""

    rows: list[TokenRow]
    conversations: list[Conversation]  # what each row is made of
    cut: int  # rows that end with the context, and not with their conversation
    overlong: int  # conversations that were dropped because they are longer
    unanswered: int  # likewise because no token of an answer lies within the context

    @property
    def n_tokens(self) -> int:
        """That are read."""
        return sum(len(row.ids) for row in self.rows)

    @property
    def n_learned(self) -> int:
        """Targets that are learned."""
        return sum(int((row.targets != IGNORE_INDEX).sum()) for row in self.rows)

    def padded(self, *, group_by_length: bool) -> PaddedRows:
        """A row each, see `PaddedRows`."""
        return PaddedRows(self.rows, group_by_length=group_by_length)


class RowMaker:
    """Conversation -> ids -> row.

    Args:
        context_length: the most tokens of a row; the last token of a conversation is a target only.
        learn_all: every token is learned, also those of questions and marks.
        drop_long: a longer conversation is dropped, not cut.
    """

    def __init__(
        self, tokenizer: Tokenizer, style: PromptStyle, context_length: int, *, learn_all: bool, drop_long: bool
    ) -> None:
        self.tokenizer, self.style, self.context_length = tokenizer, style, context_length
        self.learn_all, self.drop_long = learn_all, drop_long

    def part(self, name: str, conversations: Sequence[Conversation]) -> EncodedSplit:
        """The rows of one side of the split, with a warning that counts what did not fit.

        Raises:
            UserError: a conversation cannot be written, with its place; or there is not one row.
        """
        rows: list[TokenRow] = []
        kept: list[Conversation] = []
        cut = overlong = unanswered = 0
        n = self.context_length + 1
        for conversation in conversations:
            ids, learned = self._encode(conversation)
            if len(ids) > n and self.drop_long:
                overlong += 1
            elif not any(learned[1:n]):
                unanswered += 1
            else:
                cut += len(ids) > n
                rows.append(as_row(ids[:n], [True] * len(ids[:n]) if self.learn_all else learned[:n]))
                kept.append(conversation)
        part = EncodedSplit(rows, kept, cut, overlong, unanswered)
        self._tell(name, part, len(conversations))
        return part

    def fits(self, conversation: Conversation) -> bool:
        """Whether an answer begins within the context."""
        return any(self._encode(conversation).learned[1 : self.context_length + 1])

    def _encode(self, conversation: Conversation) -> Encoded:
        try:
            return encode_pieces(self.style.pieces(conversation.messages, answer_next=False), self.tokenizer)
        except ValueError as error:
            raise UserError(f"{conversation.place}: {error}") from error

    def _tell(self, name: str, part: EncodedSplit, n_conversations: int) -> None:
        context = f"model.context_length={self.context_length}"
        if not part.rows:
            raise UserError(
                f"of {n_conversations:,} {name} conversations none has an answer within {context}: raise it"
            )
        counts = {
            f"were cut at {context}": part.cut,
            f"are longer than {context} and were dropped": part.overlong,
            f"have no answer within {context} and were dropped": part.unanswered,
        }
        for what, n in counts.items():
            if n:
                log.warning(f"{n:,} of {n_conversations:,} {name} conversations {what}")


@dataclass(frozen=True)
class PreparedConversations:
    """What a run trains on and is measured by, see `Prepared`."""

    parts: dict[str, EncodedSplit]  # train, val and perhaps test
    style: PromptStyle
    context_length: int
    packing: bool
    group_by_length: bool
    batch_size: int
    n_workers: int

    @cached_property
    def train(self) -> Rows:
        """What it learns from."""
        return self._rows(TRAIN)

    @cached_property
    def val(self) -> Rows:
        """What says how it goes."""
        return self._rows(VAL)

    @cached_property
    def test(self) -> Rows | None:
        """What is looked at once."""
        return self._rows(TEST) if TEST in self.parts else None

    def _rows(self, name: str) -> Rows:
        if self.packing:
            return PackedRows(self.parts[name].rows, context_length=self.context_length)
        return self.parts[name].padded(group_by_length=self.group_by_length)

    @property
    def fingerprint(self) -> str:
        """Changes whenever a row does, or how rows come together."""
        digest = hashlib.sha256(f"{self.packing} {self.context_length} {self.group_by_length}".encode())
        for part in self.parts.values():
            for row in part.rows:
                digest.update(len(row.ids).to_bytes(8) + row.ids.tobytes() + row.targets.tobytes())
        return digest.hexdigest()

    @property
    def verb(self) -> str:
        """See `Prepared`."""
        return "chat"

    @property
    def labels(self) -> dict[str, int]:
        """There are none."""
        return {}

    def told(self) -> str:
        """How many conversations, and how many tokens of them are learned."""
        train, val = self.parts[TRAIN], self.parts[VAL]
        packed = f" packed into {len(self.train):,} rows" if self.packing else ""
        return (
            f"learns {train.n_learned:,} of {train.n_tokens:,} tokens ({len(train.rows):,} conversations{packed}), "
            f"is measured on {val.n_learned:,} ({len(val.rows):,} conversations)"
        )

    def sample_prompts(self, tokenizer: Tokenizer, prompt: str | None) -> list[SamplePrompt]:
        """The first questions of the validation part; or the prompt, as a question."""
        if prompt is not None:
            return [self._opening([Message("user", prompt)], tokenizer)]
        asked = self.parts[VAL].conversations[:N_OPENINGS]
        return [self._opening(conversation.question, tokenizer) for conversation in asked]

    def _opening(self, question: Sequence[Message], tokenizer: Tokenizer) -> SamplePrompt:
        ids = encode_pieces(self.style.pieces(question, answer_next=True), tokenizer).ids
        return SamplePrompt("> " + plain_text(question).replace("\n", "\n> ") + "\n", ids, self.style.stop)

    def held_out(self) -> Iterator[str]:
        """Nothing: conversations are no running text."""
        return iter(())

    def describe(self, tokenizer: Tokenizer, *, n_examples: int, vectors: Mapping[str, Tensor]) -> dict[str, Any]:
        """Counts, padding, and some rows with what is learned of them."""
        from gptlab.data.chat.report import describe

        return describe(self, tokenizer, n_examples=n_examples)

    def render(self, description: dict[str, Any]) -> RenderableType:
        """As tables, and the rows in colour."""
        from gptlab.data.chat.report import render

        return render(description)
