"""Readers of preference pairs."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from gptlab.data.chat.fields import TURNS, Fields
from gptlab.data.chat.read_log import ReadLog
from gptlab.data.chat.readers import Conversation, is_answer
from gptlab.data.files.paths import TextFile
from gptlab.data.files.records import ENDINGS, Record, read_records
from gptlab.data.files.tables import TableFormat
from gptlab.errors import UserError
from gptlab.prompts.protocol import Message
from gptlab.slots import slot
from gptlab.storage.excerpts import excerpt


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

    The two answers are in fields of their own. The file formats are those of `records.py`. System messages beside the
    answers, and other keys, are as for `ConversationReader`.

    Args:
        format: `alpaca`: the question is an instruction, perhaps with an input and a history. `columns`: it is in a
            field of its own. `messages`: each answer field is a list of {role, content} or {from, value}; it is a whole
            conversation, of which the two differ in the last answer only, or the answer to what precedes both: a text
            or a list in the prompt field, or in `messages` or `conversations`.
        prompt_field, chosen_field, rejected_field: names of the fields.
        ignore: see `ConversationReader`.
        columns, delimiter, quoting: of a .csv or .tsv file, see `TableFormat`.
    """

    endings = ENDINGS

    def __init__(
        self,
        *,
        format: Literal["alpaca", "columns", "messages"],
        prompt_field: str,
        chosen_field: str,
        rejected_field: str,
        ignore: list[str],
        columns: list[str] | None,
        delimiter: str | None,
        quoting: bool | None,
    ) -> None:
        self.format, self.prompt_field, self.ignore = format, prompt_field, ignore
        self.table = TableFormat(columns, delimiter, quoting)
        self.fields = chosen_field, rejected_field

    def read(self, files: list[TextFile], read_log: ReadLog) -> Iterator[Pair]:
        """Yield the pairs in order.

        Raises:
            UserError: a file is malformed, or a record is, which `read_log` may leave out.
        """
        for record in read_records(files, table=self.table, faults=read_log.faults):
            with read_log.faults.caught():
                yield self._pair(record, read_log)

    def _pair(self, record: Record, read_log: ReadLog) -> Pair:
        fields, place = Fields(record, ignore=self.ignore, read_log=read_log), record.place
        ends = [self._answer(fields, field) for field in self.fields]
        question = self._question(fields, are_whole=all(map(_is_whole, ends)))
        whole = [
            fields.after_system(_continued(question, end, f"{place}: {field}"))
            for end, field in zip(ends, self.fields, strict=True)
        ]
        fields.finish()
        chosen, rejected = (
            read_log.order_turns(messages, place, field=field)
            for messages, field in zip(whole, self.fields, strict=True)
        )
        if chosen[:-1] != rejected[:-1]:
            raise UserError(f"{place}: its two answers have different questions, wanted the same: correct it")
        if not (is_answer(chosen[-1]) and is_answer(rejected[-1])):
            raise UserError(f"{place}: an answer is not to be learned, wanted two that are: leave out the pair")
        return Pair(Conversation(chosen, place), Conversation(rejected, place))

    def _question(self, fields: Fields, *, are_whole: bool) -> list[Message]:
        """Return what precedes both answers.

        Args:
            are_whole: whether the answer fields hold whole conversations.
        """
        if self.format == "alpaca":
            return fields.question()
        if self.format == "columns" or isinstance(fields.values.get(self.prompt_field), str):
            return [Message("user", fields.text(self.prompt_field, "data.reader.prompt_field"))]
        known = (self.prompt_field,) if are_whole else (self.prompt_field, *TURNS)
        named = [field for field in known if fields.values.get(field) is not None]
        return fields.turns(named[0]) if named else []

    def _answer(self, fields: Fields, field: str) -> list[Message]:
        value = fields.values.get(field)
        if self.format == "messages":
            return fields.turns(field)
        if isinstance(value, list | dict):
            raise UserError(
                f"{fields.place}: {field!r} is {excerpt(value)}, wanted a text: data.reader.format=messages reads "
                "messages"
            )
        return [Message("assistant", fields.text(field, "data.reader.chosen_field and .rejected_field"))]


def _is_whole(messages: list[Message]) -> bool:
    """Return whether messages begin with a question."""
    return next((message.role == "user" for message in messages if message.role != "system"), False)


def _continued(question: list[Message], answer: list[Message], place: str) -> list[Message]:
    """Return the conversation of a question and an answer.

    Raises:
        UserError: the answer is a whole conversation with another question.
    """
    if not question or not _is_whole(answer):
        return question + answer
    asked, begun = ([(m.role, m.content.strip()) for m in part] for part in (question, answer))
    if begun[0][0] == "system" != asked[0][0]:
        del begun[0]
    if begun[: len(asked)] != asked:
        raise UserError(f"{place} begins with another question than the record: remove one of them")
    return answer
