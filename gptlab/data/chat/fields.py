"""The fields of one record, as a reader of conversations uses them."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from gptlab.data.chat.keys import REFUSED_IN_RECORDS, note_unused, without
from gptlab.data.chat.read_log import ReadLog
from gptlab.data.chat.turns import read_turns
from gptlab.data.files.records import Record, check_characters
from gptlab.errors import UserError
from gptlab.prompts.protocol import Message, Role
from gptlab.storage.excerpts import excerpt, excerpt_names

SYSTEM = ("system", "system_prompt", "system_message")  # fields of a system message beside the turns
TURNS = ("messages", "conversations")  # fields of a list of turns
PAST: tuple[Role, Role] = ("user", "assistant")  # speakers of a turn of Alpaca's history


class Fields:
    """Reads one record's fields, and remembers which were used.

    `finish` counts those that were not used, or refuses them if they change what the record means.

    Args:
        ignore: keys to ignore.
    """

    def __init__(self, record: Record, *, ignore: Sequence[str], read_log: ReadLog) -> None:
        self.record = record._replace(values=without(record.values, ignore))
        self.ignore, self.read_log = ignore, read_log
        self.used: set[str] = set()
        read_log.unused.update(record.values.keys() - self.record.values.keys())

    @property
    def values(self) -> dict[str, Any]:
        """Return the values by name, without the ignored ones."""
        return self.record.values

    @property
    def place(self) -> str:
        """Return the record's file and line."""
        return self.record.place

    def take(self, field: str) -> Any:
        """Return the value of a field, None if there is none."""
        self.used.add(field)
        return self.values.get(field)

    def text(self, field: str, key: str) -> str:
        """Return the text of a field, see `Record.text`."""
        self.used.add(field)
        return self.record.text(field, key)

    def turns(self, field: str) -> list[Message]:
        """Return the messages in a list, or the only one.

        Raises:
            UserError: there is no such list, or a message is malformed.
        """
        turns = self.take(field)
        turns = [turns] if isinstance(turns, dict) else turns
        if turns is not None and not isinstance(turns, list):
            raise UserError(f"{self.place}: {field!r} is {excerpt(turns)}, wanted a list of messages: correct it")
        if turns is None:
            raise self.other_format(f"no list {field!r}")
        return list(read_turns(turns, self.place, ignore=self.ignore, read_log=self.read_log))

    def question(self) -> list[Message]:
        """Return Alpaca's history, if there is one, and the instruction with its input.

        Raises:
            UserError: there is no instruction, or the history is no list of questions and answers.
        """
        if "instruction" not in self.values:
            raise self.other_format("no 'instruction'")
        past = self.take("history")
        messages = []
        turns = past if isinstance(past, list) or not past else [past]
        for number, turn in enumerate(turns or [], start=1):
            place = f"{self.place}: turn {number} of the history"
            if not (isinstance(turn, list) and len(turn) == len(PAST) and all(isinstance(text, str) for text in turn)):
                raise UserError(f"{place} is {excerpt(turn)}, wanted [question, answer]")
            for role, text in zip(PAST, turn, strict=True):
                check_characters(text, place)
                messages.append(Message(role, text))
        content = self.text("instruction", "data.reader.format")
        has_input = self.take("input") not in (None, "")
        return [*messages, Message("user", content, self.text("input", "data.reader.format") if has_input else "")]

    @cached_property
    def system(self) -> Message | None:
        """Return the system message beside the turns, if there is one.

        Raises:
            UserError: it is no text, or there are two.
        """
        found: dict[str, Message] = {}  # by the field that no other use has
        for field in [field for field in SYSTEM if field not in self.used]:
            value = self.take(field)
            if value is not None and not isinstance(value, str):
                raise UserError(
                    f"{self.place}: {field!r} is {excerpt(value)}, wanted the text of a system message: correct it, or "
                    f"ignore it with data.reader.ignore=[{field}]"
                )
            if value and value.strip():
                check_characters(value, f"{self.place}: {field!r}")
                found[field] = Message("system", value)
        for field in [*found][1:]:
            self._check_same(found[field], next(iter(found.values())), field)
        return next(iter(found.values()), None)

    def after_system(self, messages: list[Message]) -> list[Message]:
        """Return the messages, after the system message beside them.

        Raises:
            UserError: it is malformed, or they begin with another one.
        """
        if self.system is None:
            return messages
        if messages[:1] and messages[0].role == "system":
            self._check_same(self.system, messages[0], "system")
            return messages
        return [self.system, *messages]

    def _check_same(self, one: Message, other: Message, field: str) -> None:
        if one.content.strip() != other.content.strip():
            raise UserError(
                f"{self.place}: two system messages, {excerpt(one.content)} and {excerpt(other.content)}: ignore "
                f"one with data.reader.ignore=[{field}]"
            )

    def finish(self) -> None:
        """Count the fields that were not used.

        Raises:
            UserError: one of them changes what the record means.
        """
        note_unused(self.values, self.used, REFUSED_IN_RECORDS, self.place, self.read_log.unused)

    def other_format(self, problem: str) -> UserError:
        """Return the error of a record that has another format."""
        fields = excerpt_names(self.values) or "nothing"
        return UserError(
            f"{self.place}: {problem}; there are {fields}: choose the file's format with data.reader.format=alpaca, "
            "messages or columns"
        )
