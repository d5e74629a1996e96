"""Conversations from files: what `data.reader` of instruction data names."""

from collections.abc import Iterator
from typing import Literal, NamedTuple, Protocol

from gptlab.data.files.paths import TextFile
from gptlab.data.files.records import ENDINGS, Record, check_characters, read_records
from gptlab.errors import UserError
from gptlab.prompts.protocol import Message, Role, check_turns
from gptlab.slots import slot
from gptlab.storage.excerpts import excerpt, excerpt_names

ROLES: dict[str, Role] = {  # as others call them
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
}


class Conversation(NamedTuple):
    """What was said, from the first question to the last answer."""

    messages: tuple[Message, ...]
    place: str  # where it stands: `my.jsonl, line 7`

    @property
    def question(self) -> tuple[Message, ...]:
        """Everything before the first answer."""
        roles = [message.role for message in self.messages]
        return self.messages[: roles.index("assistant")]


class ConversationSource(Protocol):
    """Files -> conversations."""

    @property
    def endings(self) -> tuple[str, ...]:
        """The names of the files it reads end in one of these."""

    def read(self, files: list[TextFile]) -> Iterator[Conversation]:
        """All conversations in order; user and assistant take turns, and the assistant has the last word."""


@slot("data.reader")
class ConversationReader:
    """.json, .jsonl, .csv and .tsv files, a conversation a record; see `records.py`.

    Args:
        form: `alpaca`: an instruction, perhaps an input, and an output. `messages`: many turns, `messages` being a list
            of {role, content}, or `conversations` one of {from, value}. `columns`: a question and an answer.
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
        """See `ConversationSource`.

        Raises:
            UserError: a file is malformed, a record has not this form, or its turns make no sense; with the place.
        """
        forms = {"alpaca": _alpaca, "messages": _messages, "columns": self._columns}
        for record in read_records(files, columns=self.columns):
            messages = tuple(forms[self.format](record))
            try:
                check_turns(messages, answer_next=False)
            except ValueError as error:
                raise UserError(f"{record.place}: {error}") from None
            yield Conversation(messages, record.place)

    def _columns(self, record: Record) -> Iterator[Message]:
        yield Message("user", record.text(self.prompt_field, "data.reader.prompt_field"))
        yield Message("assistant", record.text(self.response_field, "data.reader.response_field"))


def alpaca_question(record: Record) -> Message:
    """The instruction and, where there is one, its input."""
    if "instruction" not in record.values:
        raise _other_form(record, "no 'instruction'")
    content = record.text("instruction", "data.reader.format")
    return Message("user", content, record.text("input", "data.reader.format") if record.values.get("input") else "")


def read_turns(record: Record, field: str, role: str, content: str) -> Iterator[Message]:
    """The messages that are listed under a field, whoever speaks and what is said under these keys.

    Raises:
        UserError: there is no such list, or one of its messages is none; with its place.
    """
    turns = record.values.get(field)
    if not isinstance(turns, list):
        raise _other_form(record, f"no list {field!r}")
    for number, turn in enumerate(turns, start=1):
        where = f"{record.place}: message {number}"
        if not isinstance(turn, dict) or not isinstance(turn.get(content), str):
            raise UserError(f"{where} is {excerpt(turn)}, wanted {{{role}: ..., {content}: a text}}")
        if not isinstance(turn.get(role), str) or turn[role] not in ROLES:
            raise UserError(f"{where}: the {role} is {excerpt(turn.get(role))}, wanted one of {', '.join(ROLES)}")
        check_characters(turn[content], where)
        yield Message(ROLES[turn[role]], turn[content])


def _alpaca(record: Record) -> Iterator[Message]:
    yield alpaca_question(record)
    yield Message("assistant", record.text("output", "data.reader.format"))


def _messages(record: Record) -> Iterator[Message]:
    """ShareGPT's form, or OpenAI's."""
    if "conversations" in record.values:
        return read_turns(record, "conversations", "from", "value")
    return read_turns(record, "messages", "role", "content")


def _other_form(record: Record, lacking: str) -> UserError:
    there = excerpt_names(record.values) or "nothing"
    return UserError(
        f"{record.place}: {lacking}; there are {there}: choose how the file is written with data.reader.format=alpaca, "
        "messages or columns"
    )


def has_empty_answer(conversation: Conversation) -> bool:
    """Whether there is an answer from which nothing is to be learned."""
    return any(m.role == "assistant" and not m.content.strip() for m in conversation.messages)
