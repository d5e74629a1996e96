"""Messages, pieces of text, and the protocol of prompt styles."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from gptlab.errors import UserError

Role = Literal["system", "user", "assistant"]


class Message(NamedTuple):
    """One turn of a conversation."""

    role: Role
    content: str
    input: str = ""  # the text that the instruction is about, if the data separates it, as Alpaca does
    learned: bool = True  # whether it is learned, if it is an answer


Turn = Message | dict[str, Any]  # or a message as chat templates take it: {role, content, tool_calls ...}


def plain_text(messages: Iterable[Message]) -> str:
    """Return the words of messages, one per line."""
    return "\n".join(text for message in messages for text in (message.content, message.input) if text)


class Piece(NamedTuple):
    """A span of a conversation's text, or a token of the tokenizer's own."""

    text: str
    learned: bool  # whether its tokens are targets
    token: Literal["begin", "end", "close"] | None = None  # stands in place of a text


BEGIN_OF_TEXT = Piece("", learned=False, token="begin")  # the tokenizer's beginning of text; nothing if it has none
END_OF_TEXT = Piece("", learned=True, token="end")  # the tokenizer's end of text, whatever its name
END_OF_ROW = Piece("", learned=True, token="close")  # the end of text, unless a special token stands right before it


class PromptStyle(Protocol):
    """The format in which conversations are written.

    All pieces of a question or a row are one text to the tokenizer.
    """

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

    def question(self, messages: Sequence[Turn], *, tools: Sequence[dict[str, Any]] | None = None) -> list[Piece]:
        """Return what a model is asked, up to its answer.

        Args:
            tools: functions that the model may call, as JSON schemas; styles without tools ignore them.

        Raises:
            UserError: the style cannot write the messages.
        """

    def rows(self, messages: Sequence[Message]) -> list[list[Piece]]:
        """Return what a conversation teaches.

        It is one row; or one per answer, in order, if the style writes earlier answers differently later. A row begins
        with what was asked, and ends with the last answer that is learned.

        Args:
            messages: the last is an answer that is learned; others may be there only to be read.

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
