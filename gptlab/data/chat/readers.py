"""Readers of conversations."""

from collections.abc import Iterator
from typing import Literal, NamedTuple, Protocol

from gptlab.data.chat.fields import TURNS, Fields
from gptlab.data.chat.read_log import ReadLog
from gptlab.data.files.paths import TextFile
from gptlab.data.files.records import ENDINGS, Record, read_records
from gptlab.data.files.tables import TableFormat
from gptlab.errors import UserError
from gptlab.prompts.protocol import Message
from gptlab.slots import slot


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
        """Return how many answers are learned."""
        return sum(is_answer(message) for message in self.messages)

    def taught(self) -> "Conversation":
        """Return the conversation up to the last answer that is learned."""
        after = next(n for n in range(len(self.messages), 0, -1) if is_answer(self.messages[n - 1]))
        return self._replace(messages=self.messages[:after])


class ConversationSource(Protocol):
    """Reads conversations from files."""

    @property
    def endings(self) -> tuple[str, ...]:
        """Return the endings of the files it reads."""

    def read(self, files: list[TextFile], read_log: ReadLog) -> Iterator[Conversation]:
        """Yield the conversations in order.

        User and assistant take turns, and the last message is the assistant's.

        Args:
            read_log: decides about malformed records and turns out of order, and counts them.
        """


@slot("data.reader")
class ConversationReader:
    """Reads .json, .jsonl, .csv and .tsv files of conversations.

    The file formats are those of `records.py`. In each format, a `system`, `system_prompt` or `system_message` beside
    the turns is the first message, and keys that change what a record means are refused, see `keys.py`.

    Args:
        format: `alpaca`: an instruction, perhaps an input and a history of earlier turns, and an output. `messages`:
            many turns, in a list `messages` or `conversations` of {role, content} or {from, value}. `columns`: a
            question and an answer.
        prompt_field, response_field: names of the two columns.
        ignore: keys of records and messages to ignore instead of refusing them.
        columns, delimiter, quoting: of a .csv or .tsv file, see `TableFormat`.
    """

    endings = ENDINGS

    def __init__(
        self,
        *,
        format: Literal["alpaca", "messages", "columns"],
        prompt_field: str,
        response_field: str,
        ignore: list[str],
        columns: list[str] | None,
        delimiter: str | None,
        quoting: bool | None,
    ) -> None:
        self.format, self.ignore, self.table = format, ignore, TableFormat(columns, delimiter, quoting)
        self.prompt_field, self.response_field = prompt_field, response_field

    def read(self, files: list[TextFile], read_log: ReadLog) -> Iterator[Conversation]:
        """Yield the conversations in order.

        Raises:
            UserError: a file is malformed, or a record is, which `read_log` may leave out.
        """
        for record in read_records(files, table=self.table, faults=read_log.faults):
            with read_log.faults.caught():
                yield self._conversation(record, read_log)

    def _conversation(self, record: Record, read_log: ReadLog) -> Conversation:
        fields = Fields(record, ignore=self.ignore, read_log=read_log)
        parsers = {"alpaca": _alpaca, "messages": _messages, "columns": self._columns}
        messages = fields.after_system(parsers[self.format](fields))
        fields.finish()
        return Conversation(read_log.order_turns(messages, record.place), record.place)

    def _columns(self, fields: Fields) -> list[Message]:
        question = fields.text(self.prompt_field, "data.reader.prompt_field")
        return [
            Message("user", question),
            Message("assistant", fields.text(self.response_field, "data.reader.response_field")),
        ]


def _alpaca(fields: Fields) -> list[Message]:
    return [*fields.question(), Message("assistant", fields.text("output", "data.reader.format"))]


def _messages(fields: Fields) -> list[Message]:
    lists = [name for name in TURNS if name in fields.values]
    if len(lists) > 1:
        raise UserError(
            f"{fields.place}: there are {' and '.join(lists)}: ignore one with data.reader.ignore=[{lists[1]}]"
        )
    return fields.turns(lists[0] if lists else TURNS[0])


def is_answer(message: Message) -> bool:
    """Return whether a message is an answer that is learned."""
    return message.role == "assistant" and message.learned


def has_empty_answer(conversation: Conversation) -> bool:
    """Return whether an answer that is learned is empty."""
    return any(is_answer(message) and not message.content.strip() for message in conversation.messages)
