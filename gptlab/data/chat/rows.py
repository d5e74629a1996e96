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
from gptlab.prompts.encoding import Encoded, encode_pieces
from gptlab.prompts.protocol import PromptStyle
from gptlab.tokenizer.protocol import Tokenizer

log = logging.getLogger(__name__)


class EncodedSplit(NamedTuple):
    """One split of the data, a row a conversation."""

    rows: list[TokenRow]
    conversations: list[Conversation]  # behind each row
    n_cut: int  # rows that end with the context, before their conversation ends
    n_overlong: int  # conversations that were dropped because they are longer than the context
    n_unanswered: int  # conversations that were dropped because no token of an answer lies within the context

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
        drop_long: drop longer conversations instead of cutting them.
    """

    def __init__(
        self, tokenizer: Tokenizer, style: PromptStyle, context_length: int, *, learn_all: bool, drop_long: bool
    ) -> None:
        self.tokenizer, self.style, self.context_length = tokenizer, style, context_length
        self.learn_all, self.drop_long = learn_all, drop_long

    def encode_split(self, name: str, conversations: Sequence[Conversation]) -> EncodedSplit:
        """Return the rows of a split.

        Log how many conversations did not fit.

        Raises:
            UserError: a conversation cannot be encoded (the message names its place), or no row is left.
        """
        rows: list[TokenRow] = []
        kept: list[Conversation] = []
        n_cut = n_overlong = n_unanswered = 0
        n = self.context_length + 1
        for conversation in conversations:
            ids, learned = self._encode(conversation)
            if len(ids) > n and self.drop_long:
                n_overlong += 1
            elif not any(learned[1:n]):
                n_unanswered += 1
            else:
                n_cut += len(ids) > n
                rows.append(as_row(ids[:n], [True] * len(ids[:n]) if self.learn_all else learned[:n]))
                kept.append(conversation)
        split = EncodedSplit(rows, kept, n_cut, n_overlong, n_unanswered)
        self._warn(name, split, len(conversations))
        return split

    def fits(self, conversation: Conversation) -> bool:
        """Return whether an answer begins within the context."""
        return any(self._encode(conversation).learned[1 : self.context_length + 1])

    def _encode(self, conversation: Conversation) -> Encoded:
        try:
            return encode_pieces(self.style.pieces(conversation.messages, answer_next=False), self.tokenizer)
        except ValueError as error:
            raise UserError(f"{conversation.place}: {error}") from error

    def _warn(self, name: str, split: EncodedSplit, n_conversations: int) -> None:
        context = f"model.context_length={self.context_length}"
        if not split.rows:
            raise UserError(
                f"none of {n_conversations:,} {name} conversations has an answer within {context}: raise it"
            )
        counts = {
            f"were cut at {context}": split.n_cut,
            f"are longer than {context} and were dropped": split.n_overlong,
            f"have no answer within {context} and were dropped": split.n_unanswered,
        }
        for reason, n in counts.items():
            if n:
                log.warning(f"{n:,} of {n_conversations:,} {name} conversations {reason}")
