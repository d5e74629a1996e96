"""Readers of record files.

.json holds a list of objects, .jsonl one object per line, .csv and .tsv one row of texts per line; each may be
compressed as .gz.
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

ENDINGS = tuple(f"{kind}{compressed}" for kind in (".json", ".jsonl", ".csv", ".tsv") for compressed in ("", ".gz"))
SURROGATE = re.compile("[\ud800-\udfff]")


class Record(NamedTuple):
    """One example as its file holds it."""

    values: dict[str, Any]
    place: str  # `my.jsonl, line 7`

    def text(self, field: str, key: str) -> str:
        """Return the text of a field.

        Args:
            key: the configuration key that names the field, for messages.

        Raises:
            UserError: there is no such field, or it holds no text.
        """
        if field not in self.values:
            fields = excerpt_names(self.values) or "none"
            raise UserError(f"{self.place}: no field {field!r}; there are {fields}: name one with {key}=")
        value = self.values[field]
        if not isinstance(value, str):
            raise UserError(
                f"{self.place}: {field!r} is {excerpt(value)}, wanted a text: correct it, or name another field with "
                f"{key}="
            )
        check_characters(value, f"{self.place}: {excerpt(field)}")
        return value


def check_characters(text: str, place: str) -> None:
    """Raise a UserError for half of a surrogate pair.

    JSON escapes can produce one.
    """
    if surrogate := SURROGATE.search(text):
        raise UserError(f"{place} holds {surrogate.group()!r}, half a character: correct it")


def read_records(files: Iterable[TextFile], *, columns: list[str] | None) -> Iterator[Record]:
    """Yield every record of the files, in order.

    Args:
        columns: names of the columns of a .csv or .tsv file without a header; None takes them from its first line.

    Raises:
        UserError: a file is not UTF-8 or does not match its ending; the message names the line.
    """
    for file in files:
        yield from _read_file(file, columns)


def _read_file(file: TextFile, columns: list[str] | None) -> Iterator[Record]:
    with file.open() as raw:
        content = raw.read()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = 1 + content.count(b"\n", 0, error.start)
        raise UserError(f"{file.path}, line {line}: not UTF-8: save the file as UTF-8") from error
    kind = Path(file.name.removesuffix(".gz")).suffix
    if kind == ".json":
        return _read_json(text, file.path)
    if kind == ".jsonl":
        return _read_lines(text, file.path)
    return _read_table(text, file.path, delimiter="\t" if kind == ".tsv" else ",", columns=columns)


def _read_json(text: str, path: Path) -> Iterator[Record]:
    try:
        entries = parse_json(text, str(path))
    except ValueError as error:
        raise UserError(f"{error}; correct it, or write one object per line into a .jsonl file") from error
    if not isinstance(entries, list):
        raise UserError(f"{path} holds a {type(entries).__name__}, wanted a list of objects")
    for number, entry in enumerate(entries, start=1):
        yield _record(entry, f"{path}, entry {number}")


def _read_lines(text: str, path: Path) -> Iterator[Record]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                entry = parse_json(line, f"{path}, line {number}")
            except ValueError as error:
                raise UserError(f"{error}; wanted one object per line") from error
            yield _record(entry, f"{path}, line {number}")


def _record(entry: Any, place: str) -> Record:
    if not isinstance(entry, dict):
        raise UserError(f"{place}: got {excerpt(entry)}, wanted an object")
    return Record(entry, place)


def _read_table(text: str, path: Path, *, delimiter: str, columns: list[str] | None) -> Iterator[Record]:
    """Yield the rows of a table.

    A text may span several lines; its place is then its last line.
    """
    # The csv module's default limit is 131,072 characters. The setting is global, so it is only ever raised.
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        names = columns if columns is not None else next(reader, [])
        if len(names) == 1 and (other := next((sign for sign in ";\t|" if sign in names[0]), None)):
            raise UserError(
                f"{path}, line 1: one column, {excerpt(names[0])}; wanted several, separated by "
                f"{delimiter!r} and not by {other!r}: save it that way"
            )
        for row in reader:
            if not row:
                continue
            place = f"{path}, line {reader.line_num}"
            if len(row) != len(names):
                raise UserError(
                    f"{place}: {len(row)} columns, wanted {len(names)} ({excerpt_names(names)}): quote texts that "
                    f"hold {delimiter!r}"
                )
            yield Record(dict(zip(names, row, strict=True)), place)
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}: correct the row") from error
