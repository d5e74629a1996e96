"""Readers of record files.

.json holds a list of objects, .jsonl one object per line, .csv and .tsv a table, see `tables.py`; each may be
compressed as .gz.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from gptlab.data.files.encoding import BEGINNING_BYTES, check_beginning, decode_utf8
from gptlab.data.files.faults import Faults
from gptlab.data.files.paths import TextFile
from gptlab.data.files.tables import TableFormat, read_table
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


def read_records(files: Iterable[TextFile], *, table: TableFormat, faults: Faults) -> Iterator[Record]:
    """Yield every record of the files, in order.

    Args:
        table: the columns and the dialect of a .csv or .tsv file.
        faults: decides about lines of a .jsonl file, entries of a .json file and rows of a table that are no records.

    Raises:
        UserError: a file is not UTF-8 or does not match its ending; the message names the line.
    """
    for file in files:
        yield from _read_file(file, table, faults)


def read_content(file: TextFile) -> bytes:
    """Return a text file's content, unpacked.

    Raises:
        UserError: its beginning is not text in UTF-8.
    """
    with file.open() as raw:
        content = raw.read()
    check_beginning(content[:BEGINNING_BYTES], file.path)
    return content


def _read_file(file: TextFile, table: TableFormat, faults: Faults) -> Iterator[Record]:
    content = read_content(file)
    kind = Path(file.name.removesuffix(".gz")).suffix
    if kind == ".jsonl":
        return _read_lines(content, file, faults)
    text = decode_utf8(content, file.path)
    if kind == ".json":
        return _read_json(text, file.path, faults)
    return _read_rows(text, file.path, table, faults, usual_delimiter="\t" if kind == ".tsv" else ",")


def _read_json(text: str, path: Path, faults: Faults) -> Iterator[Record]:
    try:
        entries = parse_json(text, str(path))
    except ValueError as error:
        raise UserError(f"{error}; correct it, or write one object per line into a .jsonl file") from error
    if not isinstance(entries, list):
        raise UserError(f"{path} holds a {type(entries).__name__}, wanted a list of objects")
    for number, entry in enumerate(entries, start=1):
        with faults.caught():
            yield _record(entry, f"{path}, entry {number}")


def _read_lines(content: bytes, file: TextFile, faults: Faults) -> Iterator[Record]:
    for number, line in enumerate(content.split(b"\n"), start=1):
        with faults.caught():
            if (text := decode_utf8(line, file.path, first_line=number)).strip():
                yield _parsed(text, file.line(number))


def _parsed(line: str, place: str) -> Record:
    try:
        entry = parse_json(line, place)
    except ValueError as error:
        raise UserError(f"{error}; wanted one object per line") from error
    return _record(entry, place)


def _record(entry: Any, place: str) -> Record:
    if not isinstance(entry, dict):
        raise UserError(f"{place}: got {excerpt(entry)}, wanted an object")
    return Record(entry, place)


def _read_rows(text: str, path: Path, table: TableFormat, faults: Faults, *, usual_delimiter: str) -> Iterator[Record]:
    for place, values in read_table(text, path, table, usual_delimiter=usual_delimiter):
        with faults.caught():
            if isinstance(values, UserError):
                raise values
            yield Record(values, place)
