"""Readers of text files.

They yield documents in chunks, so that memory stays bounded.
"""

import codecs
import json
from collections.abc import Iterator
from typing import IO, Any, NamedTuple, Protocol

from gptlab.data.files.encoding import BEGINNING_BYTES, check_beginning, not_utf8
from gptlab.data.files.faults import Faults
from gptlab.data.files.paths import TextFile
from gptlab.data.files.records import check_characters
from gptlab.data.text.chunking import cut_blocks, cut_chunks, split_documents
from gptlab.errors import UserError
from gptlab.slots import slot
from gptlab.storage.excerpts import excerpt_names
from gptlab.storage.files import parse_json

BLOCK_BYTES = 1 << 20


class TextChunk(NamedTuple):
    """A chunk of a document, see `chunking.py`."""

    document: str  # its name
    text: str
    ends_document: bool


class Reader(Protocol):
    """A reader of one kind of file."""

    @property
    def endings(self) -> tuple[str, ...]:
        """Return the endings of readable files' names."""

    def read(self, file: TextFile, faults: Faults) -> Iterator[TextChunk]:
        """Yield the file's documents, chunk by chunk.

        Args:
            faults: decides about records without a text.
        """

    def state(self) -> dict[str, Any]:
        """Return the reader's settings, for cache keys."""


@slot("data.reader")
class TextReader:
    """Reader of .txt, .md and .jsonl files.

    Each may also be a .gz.
    A .txt or .md file is one document, or several between separators; a .jsonl file has one document per line.
    Documents are named after their file; with several in one, `notes.txt:3` is the third and `notes.jsonl:17` line 17.

    Args:
        field: the key of a .jsonl object that holds the text.
        separator: the text between two documents of a .txt or .md file; None if a file is one document.
    """

    endings = (".txt", ".md", ".jsonl", ".txt.gz", ".md.gz", ".jsonl.gz")

    def __init__(self, *, field: str, separator: str | None) -> None:
        if separator == "":
            raise UserError("data.reader.separator is empty: give the text between two documents, or null for none")
        self.field, self.separator = field, separator

    def read(self, file: TextFile, faults: Faults) -> Iterator[TextChunk]:
        """Yield the file's documents, chunk by chunk.

        Args:
            faults: decides about .jsonl lines that are not an object with a text in `field`.

        Raises:
            UserError: the file is not UTF-8, or such a line is an error.
        """
        with file.open() as raw:
            check_beginning(raw.read(BEGINNING_BYTES), file.path)
            raw.seek(0)
            if file.name.removesuffix(".gz").endswith(".jsonl"):
                yield from self._read_lines(file, raw, faults)
            elif self.separator is None:
                yield from (TextChunk(file.name, text, last) for text, last in cut_chunks(_decode_blocks(file, raw)))
            else:
                documents = split_documents(_decode_blocks(file, raw), self.separator)
                for number, blocks in enumerate(documents, start=1):
                    yield from (TextChunk(f"{file.name}:{number}", text, last) for text, last in cut_chunks(blocks))

    def state(self) -> dict[str, Any]:
        """Return the reader's settings, for cache keys."""
        return {"reader": "text", "field": self.field, "separator": self.separator}

    def _read_lines(self, file: TextFile, raw: IO[bytes], faults: Faults) -> Iterator[TextChunk]:
        start = 0  # offset of the line in bytes
        for number, line in enumerate(raw, start=1):
            text = None
            with faults.caught():
                text = _parse_line(line, self.field, file.line(number), start)
            if text is not None:
                name = f"{file.name}:{number}"
                yield from (TextChunk(name, chunk, last) for chunk, last in cut_chunks(cut_blocks(text)))
            start += len(line)


def _decode_blocks(file: TextFile, raw: IO[bytes]) -> Iterator[str]:
    """Yield a UTF-8 file's text in blocks.

    A byte order mark is dropped.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    n_read, n_lines = 0, 0
    while True:
        block = raw.read(BLOCK_BYTES)
        n_read += len(block)
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            before = error.object[: error.start]
            line = 1 + n_lines + before.count(b"\n")
            place = n_read - len(error.object) + error.start
            raise not_utf8(f"{file.path}, line {line}, byte {place}", error) from error
        yield text
        if not block:
            return
        n_lines += block.count(b"\n")


def _parse_line(line: bytes, field: str, place: str, start: int) -> str | None:
    """Return the text of a .jsonl line, None if blank.

    Args:
        place: of the line, for messages.
        start: offset of the line in bytes.
    """
    if not line.strip():
        return None
    try:
        value = parse_json(line.rstrip().decode("utf-8").removeprefix("\ufeff"), place)  # files may be joined
    except UnicodeDecodeError as error:
        raise not_utf8(f"{place}, byte {start + error.start}", error) from error
    except ValueError as error:
        raise UserError(f"{error}; wanted one object per line") from error
    if not isinstance(value, dict):
        raise UserError(f"{place}: got {type(value).__name__}, wanted an object like {{{json.dumps(field)}: ...}}")
    if field not in value:
        fields = excerpt_names(value) or "none"
        raise UserError(f"{place}: no field {field!r}; there are {fields}: name one with data.reader.field=")
    text = value[field]
    if not isinstance(text, str):
        kind = "null" if text is None else type(text).__name__
        raise UserError(f"{place}: field {field!r} holds {kind}, wanted a string: correct it")
    check_characters(text, f"{place}: field {field!r}")
    return text
