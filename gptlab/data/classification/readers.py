"""Labelled texts from files: what `data.reader` of labelled data names."""

import json
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from gptlab.data.files.paths import TextFile
from gptlab.data.files.records import ENDINGS, Record, read_records
from gptlab.errors import UserError
from gptlab.slots import slot


class Example(NamedTuple):
    """A text, and the class that it is of."""

    text: str
    label: str
    group: str | None  # examples of one group stay on one side of the split; None where there are no groups
    place: str  # where it stands: `my.csv, line 7`


class ExampleSource(Protocol):
    """Files -> labelled texts."""

    @property
    def endings(self) -> tuple[str, ...]:
        """The names of the files it reads end in one of these."""

    def read(self, file: TextFile) -> Iterator[Example]:
        """The file's examples in order."""


@slot("data.reader")
class LabelledReader:
    """.csv, .tsv, .json and .jsonl files, an example a record; see `records.py`.

    Args:
        text_field: the column or key under which the text stands.
        label_field: likewise the class: a text, a whole number, or true and false.
        group_field: likewise what an example belongs to, its author say; None where that is nothing.
        columns: names for the columns of a .csv or .tsv file without a header; None takes them from its first line.
    """

    endings = ENDINGS

    def __init__(
        self, *, text_field: str, label_field: str, group_field: str | None, columns: list[str] | None
    ) -> None:
        self.text_field, self.label_field, self.group_field = text_field, label_field, group_field
        self.columns = columns

    def read(self, file: TextFile) -> Iterator[Example]:
        """The file's examples in order.

        Raises:
            UserError: the file is malformed, or a record lacks a field or has no class under it; with the place.
        """
        for record in read_records([file], columns=self.columns):
            text = record.text(self.text_field, "data.reader.text_field")
            group = None if self.group_field is None else _named(record, self.group_field, "data.reader.group_field")
            yield Example(text, _named(record, self.label_field, "data.reader.label_field"), group, record.place)


def named(label: str | int | bool) -> str:
    """What a class is called; a number and a truth value as JSON writes them."""
    return label if isinstance(label, str) else json.dumps(label)


def _named(record: Record, field: str, key: str) -> str:
    """The name under a field."""
    if isinstance(value := record.values.get(field), bool | int):
        return named(value)
    name = record.text(field, key).strip()  # blanks beside it would be another class
    if not name:
        raise UserError(f"{record.place}: {field!r} is empty: give it a value, or take the row out")
    return name
