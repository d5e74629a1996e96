"""Readers of labelled texts."""

import json
import re
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from gptlab.data.files.faults import Faults
from gptlab.data.files.paths import TextFile
from gptlab.data.files.records import ENDINGS, Record, read_records
from gptlab.data.files.tables import TableFormat
from gptlab.errors import UserError
from gptlab.slots import slot
from gptlab.storage.excerpts import excerpt

WHOLE_FLOAT = re.compile(r"(-?[0-9]+)\.0+")  # as pandas writes whole numbers of a column with gaps


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

    def read(self, file: TextFile, faults: Faults) -> Iterator[Example]:
        """Yield the file's examples in order.

        Args:
            faults: decides about records that are no examples.
        """


@slot("data.reader")
class LabelledReader:
    """Reads .csv, .tsv, .json and .jsonl files of labelled texts.

    The file formats are those of `records.py`.

    Args:
        text_field: the column or key of the text.
        label_field: the column or key of the class, see `class_name`.
        group_field: the column or key of the example's group, such as its author; None without groups.
        columns, delimiter, quoting: of a .csv or .tsv file, see `TableFormat`.
    """

    endings = ENDINGS

    def __init__(
        self,
        *,
        text_field: str,
        label_field: str,
        group_field: str | None,
        columns: list[str] | None,
        delimiter: str | None,
        quoting: bool | None,
    ) -> None:
        self.text_field, self.label_field, self.group_field = text_field, label_field, group_field
        self.table = TableFormat(columns, delimiter, quoting)

    def read(self, file: TextFile, faults: Faults) -> Iterator[Example]:
        """Yield the file's examples in order.

        Raises:
            UserError: the file is malformed, or a record lacks a field or its class; the message names the place.
        """
        for record in read_records([file], table=self.table, faults=faults):
            with faults.caught():
                yield self._example(record)

    def _example(self, record: Record) -> Example:
        text = record.text(self.text_field, "data.reader.text_field")
        if not text.strip():  # a row without a text is left out and counted, so it needs no label
            return Example("", "", None, record.place)
        label = class_name(_value(record, self.label_field, "data.reader.label_field"))
        group = None if self.group_field is None else str(_value(record, self.group_field, "data.reader.group_field"))
        return Example(text, label, group, record.place)


def class_name(label: str | int | bool) -> str:
    """Return the name of a class.

    Truth values and whole numbers are written as in JSON, also those of pandas and of spreadsheets: `False` and `FALSE`
    are `false`, and `1.0` is `1`.
    """
    if not isinstance(label, str):
        return json.dumps(label)
    if label.lower() in ("true", "false"):
        return label.lower()
    number = WHOLE_FLOAT.fullmatch(label)
    return number[1] if number else label


def _value(record: Record, field: str, key: str) -> str | int | bool:
    """Return a field's value: a text, a whole number or a truth value."""
    value = record.values.get(field, "")
    if isinstance(value, bool | int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, str):
        shown = "null" if value is None else excerpt(value)
        raise UserError(
            f"{record.place}: {field!r} is {shown}, wanted a text, a whole number, true or false: correct it, or name "
            f"another field with {key}="
        )
    name = record.text(field, key).strip()  # surrounding blanks would make it another class
    if not name:
        raise UserError(f"{record.place}: {field!r} is empty: give it a value, or remove the row")
    return name
