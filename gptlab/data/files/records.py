"""Files of records -> their values, each with the place where it stands.

.json holds a list of objects, .jsonl an object a line, .csv and .tsv a row of texts a line; each also as .gz.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from gptlab.data.files.paths import TextFile
from gptlab.errors import UserError
from gptlab.storage.excerpts import excerpt, excerpt_names
from gptlab.storage.files import parse_json

ENDINGS = tuple(f"{kind}{packed}" for kind in (".json", ".jsonl", ".csv", ".tsv") for packed in ("", ".gz"))


class Record(NamedTuple):
    """One example as its file has it."""

    values: dict[str, Any]
    place: str  # `my.jsonl, line 7`

    def text(self, field: str, key: str) -> str:
        """The text under a field.

        Args:
            key: of the configuration, which names the field.

        Raises:
            UserError: there is no such field, or no text in it.
        """
        if field not in self.values:
            there = excerpt_names(self.values) or "none"
            raise UserError(f"{self.place}: no field {field!r}; there are {there}: name one with {key}=")
        value = self.values[field]
        if not isinstance(value, str):
            raise UserError(
                f"{self.place}: {field!r} is {excerpt(value)}, wanted a text: mend it, or name another field with "
                f"{key}="
            )
        check_characters(value, f"{self.place}: {excerpt(field)}")
        return value


def check_characters(text: str, place: str) -> None:
    """Raise a UserError if half of a surrogate pair stands in a text, as JSON can write it."""
    if surrogate := _SURROGATE.search(text):
        raise UserError(f"{place} holds {surrogate.group()!r}, half a character: mend it")


_SURROGATE = re.compile("[\ud800-\udfff]")


def read_records(files: Iterable[TextFile], *, columns: list[str] | None) -> Iterator[Record]:
    """Every record in order.

    Args:
        columns: names for the columns of a .csv or .tsv file without a header; None takes them from its first line.

    Raises:
        UserError: a file is not UTF-8 or not what its name says, with the line.
    """
    for file in files:
        yield from _read(file, columns)


def _read(file: TextFile, columns: list[str] | None) -> Iterator[Record]:
    with file.open() as raw:
        content = raw.read()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = 1 + content.count(b"\n", 0, error.start)
        raise UserError(f"{file.path}, line {line}: not UTF-8; save the file as UTF-8") from error
    kind = Path(file.name.removesuffix(".gz")).suffix
    if kind == ".json":
        return _objects(text, file.path)
    if kind == ".jsonl":
        return _lines(text, file.path)
    return _table(text, file.path, delimiter="\t" if kind == ".tsv" else ",", columns=columns)


def _objects(text: str, path: Path) -> Iterator[Record]:
    try:
        entries = parse_json(text, str(path))
    except ValueError as error:
        raise UserError(f"{error}; mend it, or write an object a line into a .jsonl") from error
    if not isinstance(entries, list):
        raise UserError(f"{path} holds a {type(entries).__name__}, wanted a list of objects")
    for number, entry in enumerate(entries, start=1):
        yield _record(entry, f"{path}, entry {number}")


def _lines(text: str, path: Path) -> Iterator[Record]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                entry = parse_json(line, f"{path}, line {number}")
            except ValueError as error:
                raise UserError(f"{error}; wanted one object a line") from error
            yield _record(entry, f"{path}, line {number}")


def _record(entry: Any, place: str) -> Record:
    if not isinstance(entry, dict):
        raise UserError(f"{place}: got {excerpt(entry)}, wanted an object")
    return Record(entry, place)


def _table(text: str, path: Path, *, delimiter: str, columns: list[str] | None) -> Iterator[Record]:
    """Rows quoted as spreadsheets do; a text may go over several lines, and is placed where it ends."""
    # by itself the module refuses texts above 131,072 characters; the limit is everybody's, so it is never lowered
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        names = columns if columns is not None else next(reader, [])
        if len(names) == 1 and (sign := next((sign for sign in ";\t|" if sign in names[0]), None)):
            raise UserError(
                f"{path}, line 1: one column, {excerpt(names[0])}; wanted several, apart by {delimiter!r} "
                f"and not by {sign!r}: save it so"
            )
        for row in reader:
            if not row:
                continue
            place = f"{path}, line {reader.line_num}"
            if len(row) != len(names):
                raise UserError(
                    f"{place}: {len(row)} columns, wanted {len(names)} ({excerpt_names(names)}): quote a text that "
                    "holds the sign between columns"
                )
            yield Record(dict(zip(names, row, strict=True)), place)
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}; mend the row") from error
