"""What a prompt style is."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

Role = Literal["system", "user", "assistant"]


class Message(NamedTuple):
    """One turn of a conversation."""

    role: Role
    content: str
    input: str = ""  # what the instruction is about, where data keeps the two apart, as Alpaca's does


class Piece(NamedTuple):
    """A part of a conversation's text. Pieces are tokenised one by one, so that no token spans two."""

    text: str
    learned: bool  # whether a model learns to write it
    marks: bool  # whether special tokens in it are meant; those in people's words are text


class PromptStyle(Protocol):
    """How a conversation is written down."""

    @property
    def stop(self) -> tuple[str, ...]:
        """Texts that end an answer; the tokenizer's end of text always does."""

    def pieces(self, messages: Sequence[Message], *, answer_next: bool) -> list[Piece]:
        """The conversation in order.

        Args:
            answer_next: it ends where the assistant is to answer; else with the assistant's last answer and its end.

        Raises:
            ValueError: an order of roles that the style has no form for.
        """

    def ends_with_eot(self) -> bool:
        """Whether an answer ends with the tokenizer's end of text instead of a mark of the style's own."""
