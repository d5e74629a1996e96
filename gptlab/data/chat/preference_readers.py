"""Readers of preference pairs."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from gptlab.data.chat.readers import Conversation, alpaca_question, read_turns
from gptlab.data.files.paths import TextFile
from gptlab.data.files.records import ENDINGS, Record, read_records
from gptlab.errors import UserError
from gptlab.prompts.protocol import Message, check_turns
from gptlab.slots import slot


class Pair(NamedTuple):
    """Two conversations that differ in the last answer only."""

    chosen: Conversation
    rejected: Conversation

    @property
    def question(self) -> tuple[Message, ...]:
        """Return the question of both answers."""
        return self.chosen.question


@slot("data.reader")
class PairReader:
    """Reads .json, .jsonl, .csv and .tsv files of pairs.

    The two answers are in fields of their own. The file formats are those of `records.py`.

    Args:
        format: `alpaca`: the question is an instruction, perhaps with an input. `columns`: it is in a field of its own.
            `messages`: each answer field is a whole conversation, a list of {role, content}, and the two differ in the
            last answer only.
        prompt_field, chosen_field, rejected_field: names of the fields.
        columns: names for the columns of a .csv or .tsv file without a header; None takes them from its first line.
    """

    endings = ENDINGS

    def __init__(
        self,
        *,
        format: Literal["alpaca", "columns", "messages"],
        prompt_field: str,
        chosen_field: str,
        rejected_field: str,
        columns: list[str] | None,
    ) -> None:
        self.format, self.prompt_field, self.columns = format, prompt_field, columns
        self.fields = chosen_field, rejected_field

    def read(self, files: list[TextFile]) -> Iterator[Pair]:
        """Yield the pairs in order.

        Raises:
            UserError: a file is malformed, or a record has another format or impossible turns, reported with its place.
        """
        for record in read_records(files, columns=self.columns):
            chosen, rejected = (self._conversation(record, field) for field in self.fields)
            if chosen.messages[:-1] != rejected.messages[:-1]:
                raise UserError(
                    f"{record.place}: its two answers have different questions, wanted the same: correct it"
                )
            yield Pair(chosen, rejected)

    def _conversation(self, record: Record, field: str) -> Conversation:
        if self.format == "messages":
            messages = tuple(read_turns(record, field, "role", "content"))
        else:
            answer = Message("assistant", record.text(field, "data.reader.chosen_field and .rejected_field"))
            messages = (self._question(record), answer)
        try:
            check_turns(messages, answer_next=False)
        except ValueError as error:
            raise UserError(f"{record.place}: {field}: {error}") from None
        return Conversation(messages, record.place)

    def _question(self, record: Record) -> Message:
        if self.format == "alpaca":
            return alpaca_question(record)
        return Message("user", record.text(self.prompt_field, "data.reader.prompt_field"))
