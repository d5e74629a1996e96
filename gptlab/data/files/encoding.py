"""The encoding of text files: UTF-8 is read, others are recognised and named."""

import codecs
from pathlib import Path

from gptlab.errors import UserError

BEGINNING_BYTES = 4096  # enough to recognise the kind of a file
MAX_NUL_SHARE = 0.1  # of a text's bytes; UTF-16 has a NUL beside each ASCII letter

BYTE_ORDER_MARKS = {  # UTF-32's mark begins with UTF-16's
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
SIGNATURES = {
    b"\x1f\x8b": "a gzip file: give it the ending .gz",
    b"PK\3\4": "a zip file, as .docx and .xlsx files are: unpack it, or save its text as UTF-8",
    b"%PDF": "a PDF file: save its text as UTF-8",
    b"\xd0\xcf\x11\xe0": "a file of an office program: save its text as UTF-8",
    b"SQLite format 3": "a database: save its text as UTF-8",
}


def check_beginning(beginning: bytes, path: Path) -> None:
    """Raise a UserError for a file that is not text in UTF-8.

    Only its beginning is examined, see `decode_utf8` for the rest.

    Args:
        beginning: the file's first bytes, BEGINNING_BYTES if it has so many.
    """
    for signature, kind in SIGNATURES.items():
        if beginning.startswith(signature):
            raise UserError(f"{path} is not text but {kind}")
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if beginning.startswith(mark):
            raise UserError(f"{path} is {encoding}, wanted UTF-8: {_conversion(encoding)}")
    if beginning.count(0) > MAX_NUL_SHARE * len(beginning):
        even = beginning[::2].count(0) > beginning[1::2].count(0)
        raise UserError(
            f"{path} holds NUL characters, as UTF-16 without a byte order mark does: "
            f"{_conversion('UTF-16BE' if even else 'UTF-16LE')}, or give another file if it is not text"
        )


def not_utf8(place: str, error: UnicodeDecodeError) -> UserError:
    """Return the error for a byte that is not UTF-8."""
    byte = error.object[error.start : error.start + 1]
    letter = byte.decode("cp1252", "replace")
    seen = f"0x{byte.hex()}, {letter!r} in Windows-1252" if letter.isalnum() else f"0x{byte.hex()}"
    return UserError(f"{place}: not UTF-8 ({seen}): save the file as UTF-8, or {_conversion('WINDOWS-1252')}")


def decode_utf8(content: bytes, path: Path, *, first_line: int = 1) -> str:
    """Return the text of a file's bytes, without a byte order mark.

    Args:
        first_line: the number of the content's first line.

    Raises:
        UserError: it is not UTF-8; the message names the line.
    """
    try:
        return content.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        line = first_line + error.object.count(b"\n", 0, error.start)
        raise not_utf8(f"{path}, line {line}", error) from error


def _conversion(encoding: str) -> str:
    return f"convert it with `iconv -f {encoding} -t UTF-8 OLD > NEW`"
