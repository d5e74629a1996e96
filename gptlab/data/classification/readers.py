"""Readers of labelled texts."""

import json
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from gptlab.data.files.paths import TextFile
from gptlab.data.files.records import ENDINGS, Record, read_records
from gptlab.errors import UserError
from gptlab.slots import slot


class Example(NamedTuple):
    """A text and its class."""

    text: str
    label: str
    group: str | None  # examples of one group stay in one split; None without groups
    place: str  # for messages: `my.csv, line 7`


class ExampleSource(Protocol):
    """Reads labelled texts from files."""

    @property
    def endings(self) -> tuple[str, ...]:
        """Return the endings of the files it reads."""

    def read(self, file: TextFile) -> Iterator[Example]:
        """Yield the file's examples in order."""


@slot("data.reader")
class LabelledReader:
    """Reads .csv, .tsv, .json and .jsonl files of labelled texts.

    The file formats are those of `records.py`.

    Args:
        text_field: the column or key of the text.
        label_field: the column or key of the class: a text, a whole number, or true and false.
        group_field: the column or key of the example's group, such as its author; None without groups.
        columns: names for the columns of a .csv or .tsv file without a header; None takes them from its first line.
    """

    endings = ENDINGS

    def __init__(
        self, *, text_field: str, label_field: str, group_field: str | None, columns: list[str] | None
    ) -> None:
        self.text_field, self.label_field, self.group_field = text_field, label_field, group_field
        self.columns = columns

    def read(self, file: TextFile) -> Iterator[Example]:
        """Yield the file's examples in order.

        Raises:
            UserError: the file is malformed, or a record lacks a field or its class; the message names the place.
        """
        for record in read_records([file], columns=self.columns):
            text = record.text(self.text_field, "data.reader.text_field")
            group = None if self.group_field is None else _named(record, self.group_field, "data.reader.group_field")
            yield Example(text, _named(record, self.label_field, "data.reader.label_field"), group, record.place)


def named(label: str | int | bool) -> str:
    """Return the name of a class.

    Numbers and booleans are written as in JSON.
    """
    return label if isinstance(label, str) else json.dumps(label)


def _named(record: Record, field: str, key: str) -> str:
    """Return the name under a field."""
    if isinstance(value := record.values.get(field), bool | int):
        return named(value)
    name = record.text(field, key).strip()  # surrounding blanks would make it another class
    if not name:
        raise UserError(f"{record.place}: {field!r} is empty: give it a value, or remove the row")
    return name
