"""Messages, pieces of text, and the protocol of prompt styles."""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, Protocol

from gptlab.errors import UserError

Role = Literal["system", "user", "assistant"]


class Message(NamedTuple):
    """One turn of a conversation."""

    role: Role
    content: str
    input: str = ""  # the text that the instruction is about, where data has it apart, as Alpaca does


def plain_text(messages: Iterable[Message]) -> str:
    """Return the words of messages, a line each."""
    return "\n".join(text for message in messages for text in (message.content, message.input) if text)


class Piece(NamedTuple):
    """A span of a conversation's text.

    No token crosses from a piece that is trained on into one that is not.
    """

    text: str
    learned: bool  # whether its tokens are targets
    marks: bool  # whether names of special tokens in it are those tokens; in people's words they are text


END_OF_TEXT = Piece("", learned=True, marks=True)  # the tokenizer's own end of text, whatever its name


class PromptStyle(Protocol):
    """The format in which conversations are written."""

    @property
    def name(self) -> str:
        """Return its name, as in `prompt=NAME`."""

    @property
    def stop(self) -> tuple[str, ...]:
        """Return texts that end an answer.

        The tokenizer's end of text always does.
        """

    @property
    def template(self) -> str:
        """Return the style as a Jinja template.

        The transformers library renders it.
        """

    def pieces(self, messages: Sequence[Message], *, answer_next: bool) -> list[Piece]:
        """Return the conversation in order.

        `END_OF_TEXT` ends an answer where the style has no mark of its own for it. The pieces before an answer are the
        same whether the answer is there or still to be generated.

        Args:
            answer_next: end where the assistant is to answer; otherwise end with the assistant's last answer.

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
                "first; a system message comes before all"
            )
        wanted = "assistant" if role == "user" else "user"
    if not turns or (wanted == "assistant") != answer_next:
        last = f"the last message is the {turns[-1]}'s" if turns else "there is no message"
        raise UserError(f"{last}, wanted {'a question' if answer_next else 'an answer'} at the end")
