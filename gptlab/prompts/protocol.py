"""What a prompt style is."""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, Protocol

from gptlab.errors import UserError

Role = Literal["system", "user", "assistant"]


class Message(NamedTuple):
    """One turn of a conversation."""

    role: Role
    content: str
    input: str = ""  # what the instruction is about, where data keeps the two apart, as Alpaca's does


def plain_text(messages: Iterable[Message]) -> str:
    """The words of all, without who said them; a line each, and what an instruction is about on one of its own."""
    return "\n".join(text for message in messages for text in (message.content, message.input) if text)


class Piece(NamedTuple):
    """A part of a conversation's text. No token spans what is learned and what is not."""

    text: str
    learned: bool  # whether a model learns to write it
    marks: bool  # whether special tokens in it are meant; those in people's words are text


END_OF_TEXT = Piece("", learned=True, marks=True)  # the tokenizer's own end of text, however it is called


class PromptStyle(Protocol):
    """How a conversation is written down."""

    @property
    def name(self) -> str:
        """As one types it: `prompt=NAME`"""

    @property
    def stop(self) -> tuple[str, ...]:
        """Texts that end an answer; the tokenizer's end of text always does."""

    @property
    def template(self) -> str:
        """The same in the language of Jinja, as the transformers library renders it."""

    def pieces(self, messages: Sequence[Message], *, answer_next: bool) -> list[Piece]:
        """The conversation in order, `END_OF_TEXT` where an answer ends without a mark of the style's own.

        What comes before an answer is the same, whether the answer is still to come or is there.

        Args:
            answer_next: it ends where the assistant is to answer; else with the assistant's last answer and its end.

        Raises:
            UserError: an order of roles that makes no sense, or that the style has no form for.
        """


def check_turns(messages: Sequence[Message], *, answer_next: bool) -> None:
    """A UserError unless user and assistant take turns, the user first, after one system message at most."""
    turns = [message.role for message in messages]
    wanted: Role = "user"
    for number, role in enumerate(turns, start=1):
        if role == "system" and number == 1:
            continue
        if role != wanted:
            raise UserError(
                f"message {number} is the {role}'s, wanted the {wanted}'s: user and assistant take turns, the user "
                "first; a system message comes before all"
            )
        wanted = "assistant" if role == "user" else "user"
    if not turns or (wanted == "assistant") != answer_next:
        last = f"the last message is the {turns[-1]}'s" if turns else "there is no message"
        raise UserError(f"{last}, wanted {'a question' if answer_next else 'an answer'} at the end")
