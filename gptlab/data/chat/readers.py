"""Readers of conversations."""

from collections.abc import Iterator
from typing import Literal, NamedTuple, Protocol

from gptlab.data.files.paths import TextFile
from gptlab.data.files.records import ENDINGS, Record, check_characters, read_records
from gptlab.errors import UserError
from gptlab.prompts.protocol import Message, Role, check_turns
from gptlab.slots import slot
from gptlab.storage.excerpts import excerpt, excerpt_names

ROLES: dict[str, Role] = {  # role names in other data sets -> ours
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
}


class Conversation(NamedTuple):
    """Messages from the first question to the last answer."""

    messages: tuple[Message, ...]
    place: str  # for messages: `my.jsonl, line 7`

    @property
    def question(self) -> tuple[Message, ...]:
        """Return the messages before the first answer."""
        roles = [message.role for message in self.messages]
        return self.messages[: roles.index("assistant")]

    @property
    def n_answers(self) -> int:
        """Return how many messages are the assistant's."""
        return sum(message.role == "assistant" for message in self.messages)


class ConversationSource(Protocol):
    """Reads conversations from files."""

    @property
    def endings(self) -> tuple[str, ...]:
        """Return the endings of the files it reads."""

    def read(self, files: list[TextFile]) -> Iterator[Conversation]:
        """Yield the conversations in order.

        User and assistant take turns, and the last message is the assistant's.
        """


@slot("data.reader")
class ConversationReader:
    """Reads .json, .jsonl, .csv and .tsv files of conversations.

    The file formats are those of `records.py`.

    Args:
        format: `alpaca`: an instruction, perhaps an input, and an output. `messages`: many turns, either `messages`, a
            list of {role, content}, or `conversations`, a list of {from, value}. `columns`: a question and an answer.
        prompt_field, response_field: names of the two columns.
        columns: names for the columns of a .csv or .tsv file without a header; None takes them from its first line.
    """

    endings = ENDINGS

    def __init__(
        self,
        *,
        format: Literal["alpaca", "messages", "columns"],
        prompt_field: str,
        response_field: str,
        columns: list[str] | None,
    ) -> None:
        self.format, self.columns = format, columns
        self.prompt_field, self.response_field = prompt_field, response_field

    def read(self, files: list[TextFile]) -> Iterator[Conversation]:
        """Yield the conversations in order.

        Raises:
            UserError: a file is malformed, or a record has another format or impossible turns, reported with its place.
        """
        parsers = {"alpaca": _alpaca, "messages": _messages, "columns": self._columns}
        for record in read_records(files, columns=self.columns):
            messages = tuple(parsers[self.format](record))
            try:
                check_turns(messages, answer_next=False)
            except ValueError as error:
                raise UserError(f"{record.place}: {error}") from None
            yield Conversation(messages, record.place)

    def _columns(self, record: Record) -> Iterator[Message]:
        yield Message("user", record.text(self.prompt_field, "data.reader.prompt_field"))
        yield Message("assistant", record.text(self.response_field, "data.reader.response_field"))


def alpaca_question(record: Record) -> Message:
    """Return the instruction and its input, if there is one."""
    if "instruction" not in record.values:
        raise _other_format(record, "no 'instruction'")
    content = record.text("instruction", "data.reader.format")
    return Message("user", content, record.text("input", "data.reader.format") if record.values.get("input") else "")


def read_turns(record: Record, field: str, role: str, content: str) -> Iterator[Message]:
    """Yield the messages of a list under a field.

    Args:
        role, content: the keys of a message.

    Raises:
        UserError: there is no such list, or a message is malformed; the message names the place.
    """
    turns = record.values.get(field)
    if not isinstance(turns, list):
        raise _other_format(record, f"no list {field!r}")
    for number, turn in enumerate(turns, start=1):
        place = f"{record.place}: message {number}"
        if not isinstance(turn, dict) or not isinstance(turn.get(content), str):
            raise UserError(f"{place} is {excerpt(turn)}, wanted {{{role}: ..., {content}: a text}}")
        if not isinstance(turn.get(role), str) or turn[role] not in ROLES:
            raise UserError(f"{place}: the {role} is {excerpt(turn.get(role))}, wanted one of {', '.join(ROLES)}")
        check_characters(turn[content], place)
        yield Message(ROLES[turn[role]], turn[content])


def _alpaca(record: Record) -> Iterator[Message]:
    yield alpaca_question(record)
    yield Message("assistant", record.text("output", "data.reader.format"))


def _messages(record: Record) -> Iterator[Message]:
    """Return the turns in ShareGPT's format or in OpenAI's."""
    if "conversations" in record.values:
        return read_turns(record, "conversations", "from", "value")
    return read_turns(record, "messages", "role", "content")


def _other_format(record: Record, problem: str) -> UserError:
    fields = excerpt_names(record.values) or "nothing"
    return UserError(
        f"{record.place}: {problem}; there are {fields}: choose the file's format with data.reader.format=alpaca, "
        "messages or columns"
    )


def has_empty_answer(conversation: Conversation) -> bool:
    """Return whether an answer is empty."""
    return any(m.role == "assistant" and not m.content.strip() for m in conversation.messages)
