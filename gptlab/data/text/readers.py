"""Files -> documents, each in pieces, so that memory does not depend on how long a file or a document is."""

import codecs
import json
from collections.abc import Iterator
from typing import IO, Any, NamedTuple, Protocol

from gptlab.data.files.paths import TextFile
from gptlab.data.files.records import check_characters
from gptlab.data.text.chunking import blocks_of, cut, split_documents
from gptlab.errors import UserError
from gptlab.slots import slot
from gptlab.storage.excerpts import excerpt_names
from gptlab.storage.files import parse_json

_BLOCK = 1 << 20  # bytes


class TextChunk(NamedTuple):
    """A part of a document, cut where `pieces.py` says; the next piece goes on where this one ends."""

    document: str  # its name
    text: str
    last: bool  # of its document


class Reader(Protocol):
    """Files -> documents."""

    @property
    def endings(self) -> tuple[str, ...]:
        """The names of the files it reads end in one of these."""

    def read(self, file: TextFile) -> Iterator[TextChunk]:
        """The file's documents in order, piece by piece."""

    def state(self) -> dict[str, Any]:
        """What decides how it reads, for the cache."""


@slot("data.reader")
class TextReader:
    """.txt and .md files, whole or divided at a separator; .jsonl files, an object a line; each also as .gz.

    Documents are named after their file; with several in one, `notes.txt:3` is the third and `notes.jsonl:17` line 17.

    Args:
        field: the key of a .jsonl object under which the text stands.
        separator: what stands between two documents of a .txt or .md file; None where a file is one document.
    """

    endings = (".txt", ".md", ".jsonl", ".txt.gz", ".md.gz", ".jsonl.gz")

    def __init__(self, *, field: str, separator: str | None) -> None:
        if separator == "":
            raise UserError("data.reader.separator is empty; give the text between two documents, or null for none.")
        self.field, self.separator = field, separator

    def read(self, file: TextFile) -> Iterator[TextChunk]:
        """The file's documents in order, piece by piece.

        Raises:
            UserError: the file is not UTF-8, or a line of a .jsonl file holds no object with a text under `field`.
        """
        with file.open() as raw:
            if file.name.removesuffix(".gz").endswith(".jsonl"):
                yield from self._read_lines(file, raw)
            elif self.separator is None:
                yield from (TextChunk(file.name, text, last) for text, last in cut(_decoded(file, raw)))
            else:
                for number, blocks in enumerate(split_documents(_decoded(file, raw), self.separator), start=1):
                    yield from (TextChunk(f"{file.name}:{number}", text, last) for text, last in cut(blocks))

    def state(self) -> dict[str, Any]:
        """What decides how it reads, for the cache."""
        return {"reader": "text", "field": self.field, "separator": self.separator}

    def _read_lines(self, file: TextFile, raw: IO[bytes]) -> Iterator[TextChunk]:
        start = 3 if raw.read(3) == codecs.BOM_UTF8 else 0  # the line's first byte
        raw.seek(start)
        for number, line in enumerate(raw, start=1):
            text = _text_of(line, self.field, f"{file.path}, line {number}", start)
            if text is not None:
                yield from (TextChunk(f"{file.name}:{number}", part, last) for part, last in cut(blocks_of(text)))
            start += len(line)


def _decoded(file: TextFile, raw: IO[bytes]) -> Iterator[str]:
    """The text of a UTF-8 file in blocks; a byte order mark at its beginning is dropped."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    n_read, n_lines = 0, 0
    while True:
        block = raw.read(_BLOCK)
        n_read += len(block)
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            before = error.object[: error.start]
            line = 1 + n_lines + before.count(b"\n")
            place = n_read - len(error.object) + error.start
            raise UserError(_not_utf8(f"{file.path}, line {line}", place, error)) from error
        yield text
        if not block:
            return
        n_lines += block.count(b"\n")


def _not_utf8(place: str, byte: int, error: UnicodeDecodeError) -> str:
    return f"{place}, byte {byte}: not UTF-8 (0x{error.object[error.start]:02x}); save the file as UTF-8."


def _text_of(line: bytes, field: str, place: str, start: int) -> str | None:
    """The text in a line of a .jsonl file; None where the line is blank."""
    if not line.strip():
        return None
    try:
        value = parse_json(line.rstrip().decode("utf-8"), place)
    except UnicodeDecodeError as error:
        raise UserError(_not_utf8(place, start + error.start, error)) from error
    except ValueError as error:
        raise UserError(f"{error}; wanted one object a line.") from error
    if not isinstance(value, dict):
        raise UserError(f"{place}: wanted an object like {{{json.dumps(field)}: ...}}, got {type(value).__name__}.")
    if field not in value:
        there = excerpt_names(value) or "none at all"
        raise UserError(
            f"{place}: no field {field!r}; the fields there are: {there}. Name one with data.reader.field=."
        )
    text = value[field]
    if not isinstance(text, str):
        raise UserError(f"{place}: field {field!r} holds {type(text).__name__}; wanted a string.")
    check_characters(text, f"{place}: field {field!r}")
    return text
