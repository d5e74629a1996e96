"""Conversations -> ids -> the rows of a split.

T tokens of a row.
"""

import logging
from collections.abc import Sequence
from typing import NamedTuple

from gptlab.batch import IGNORE_INDEX
from gptlab.data.chat.packing import PaddedRows, TokenRow, as_row
from gptlab.data.chat.readers import Conversation
from gptlab.errors import UserError
from gptlab.prompts.encoding import Encoded, encode_rows
from gptlab.prompts.protocol import PromptStyle
from gptlab.tokenizer.protocol import Tokenizer

log = logging.getLogger(__name__)


class EncodedSplit(NamedTuple):
    """One split of the data.

    A row is a conversation, or one of its answers with what precedes it, if the prompt style writes each anew.
    """

    rows: list[TokenRow]
    places: list[str]  # of the conversation behind each row
    conversations: list[Conversation]  # those with a row
    n_answers: int  # of these rows
    n_cut: int  # rows that end with the context, before their conversation ends
    n_overlong: int  # rows that were dropped because they are longer than the context
    n_unanswered: int  # rows that were dropped because no token of an answer lies within the context

    @property
    def n_tokens(self) -> int:
        """Return the number of input tokens."""
        return sum(len(row.ids) for row in self.rows)

    @property
    def n_learned(self) -> int:
        """Return the number of targets that are trained on."""
        return sum(int((row.targets != IGNORE_INDEX).sum()) for row in self.rows)

    @property
    def longest(self) -> int:
        """Return the number of tokens of the longest row."""
        return max(len(row.ids) for row in self.rows)

    def padded(self, *, group_by_length: bool) -> PaddedRows:
        """Return the rows padded side by side, see `PaddedRows`."""
        return PaddedRows(self.rows, group_by_length=group_by_length)


class RowEncoder:
    """Encodes conversations as rows.

    Args:
        context_length: maximum tokens per row; the last token of a conversation is a target only.
        learn_all: train on every token, also those of questions and marks.
        drop_long: drop longer rows instead of cutting them.
        last_only: of several rows of a conversation, keep the last, which has the last answer.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        style: PromptStyle,
        context_length: int,
        *,
        learn_all: bool,
        drop_long: bool,
        last_only: bool,
    ) -> None:
        self.tokenizer, self.style, self.context_length = tokenizer, style, context_length
        self.learn_all, self.drop_long, self.last_only = learn_all, drop_long, last_only

    def encode_split(self, name: str, conversations: Sequence[Conversation]) -> EncodedSplit:
        """Return the rows of a split.

        Log how many rows did not fit.

        Raises:
            UserError: a conversation cannot be encoded (the message names its place), or no row is left.
        """
        rows: list[TokenRow] = []
        places: list[str] = []
        kept: list[Conversation] = []
        n_rows = n_answers = n_cut = n_overlong = n_unanswered = 0
        n = self.context_length + 1
        for conversation in conversations:
            encoded, before = self._encode(conversation), len(rows)
            n_rows += len(encoded)
            for ids, learned in encoded:
                if len(ids) > n and self.drop_long:
                    n_overlong += 1
                elif not any(learned[1:n]):
                    n_unanswered += 1
                else:
                    n_cut += len(ids) > n
                    rows.append(as_row(ids[:n], [True] * len(ids[:n]) if self.learn_all else learned[:n]))
            if new := len(rows) - before:
                n_answers += conversation.n_answers if len(encoded) == 1 else new
                kept.append(conversation)
                places += [conversation.place] * new
        split = EncodedSplit(rows, places, kept, n_answers, n_cut, n_overlong, n_unanswered)
        self._warn(name, split, len(conversations), n_rows)
        return split

    def row(self, conversation: Conversation) -> TokenRow | None:
        """Return the last row of a conversation, None if no answer begins within the context."""
        ids, learned = self._encode(conversation)[-1]
        n = self.context_length + 1
        return as_row(ids[:n], learned[:n]) if any(learned[1:n]) else None

    def _encode(self, conversation: Conversation) -> list[Encoded]:
        try:
            rows = encode_rows(self.style, conversation.messages, self.tokenizer)
        except ValueError as error:
            raise UserError(f"{conversation.place}: {error}") from error
        return rows[-1:] if self.last_only else rows

    def _warn(self, name: str, split: EncodedSplit, n_conversations: int, n_rows: int) -> None:
        context = f"model.context_length={self.context_length}"
        if not split.rows and split.n_overlong:
            raise UserError(
                f"none of {n_conversations:,} {name} conversations can be learned: {split.n_overlong:,} of {n_rows:,} "
                f"rows are longer than {context}: raise it, or set data.overlong=cut"
            )
        if not split.rows:
            raise UserError(
                f"none of {n_conversations:,} {name} conversations has an answer within {context}: raise it"
            )
        examples = f"{name} conversations" if n_rows == n_conversations else f"{name} rows, one an answer,"
        counts = {
            f"were cut at {context}": split.n_cut,
            f"are longer than {context} and were dropped": split.n_overlong,
            f"have no answer within {context} and were dropped": split.n_unanswered,
        }
        for reason, n in counts.items():
            if n:
                log.warning(f"{n:,} of {n_rows:,} {examples} {reason}")
