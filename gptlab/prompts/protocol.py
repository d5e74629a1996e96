"""Messages, pieces of text, and the protocol of prompt styles."""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, Protocol

from gptlab.errors import UserError

Role = Literal["system", "user", "assistant"]


class Message(NamedTuple):
    """One turn of a conversation."""

    role: Role
    content: str
    input: str = ""  # the text that the instruction is about, if the data separates it, as Alpaca does


def plain_text(messages: Iterable[Message]) -> str:
    """Return the words of messages, one per line."""
    return "\n".join(text for message in messages for text in (message.content, message.input) if text)


class Piece(NamedTuple):
    """A span of a conversation's text.

    No token crosses from a piece that is trained on into one that is not.
    """

    text: str
    learned: bool  # whether its tokens are targets
    marks: bool  # whether names of special tokens become those tokens; in messages they stay text


END_OF_TEXT = Piece("", learned=True, marks=True)  # the tokenizer's end of text, whatever its name


class PromptStyle(Protocol):
    """The format in which conversations are written."""

    @property
    def name(self) -> str:
        """Return its name, as in `prompt=NAME`."""

    @property
    def stop(self) -> tuple[str, ...]:
        """Return texts that end an answer.

        The tokenizer's end of text always ends one.
        """

    @property
    def template(self) -> str:
        """Return the style as a Jinja template.

        Exported models carry it for the transformers library.
        """

    def pieces(self, messages: Sequence[Message], *, answer_next: bool) -> list[Piece]:
        """Return the conversation's pieces in order.

        `END_OF_TEXT` ends an answer if the style has no end mark of its own. The pieces before an answer are the
        same whether the answer is there or still to be generated.

        Args:
            answer_next: end before the assistant's next answer; otherwise end after its last answer.

        Raises:
            UserError: the order of roles is impossible, or the style cannot write it.
        """


def check_turns(messages: Sequence[Message], *, answer_next: bool) -> None:
    """Raise a UserError unless user and assistant take turns.

    The user is first, after at most one system message.
    """
    turns = [message.role for message in messages]
    wanted: Role = "user"
    for number, role in enumerate(turns, start=1):
        if role == "system" and number == 1:
            continue
        if role != wanted:
            raise UserError(
                f"message {number} is the {role}'s, wanted the {wanted}'s: user and assistant take turns, the user "
                "first; a system message precedes all"
            )
        wanted = "assistant" if role == "user" else "user"
    if not turns or (wanted == "assistant") != answer_next:
        last = f"the last message is the {turns[-1]}'s" if turns else "there is no message"
        raise UserError(f"{last}, wanted {'a question' if answer_next else 'an answer'} at the end")
