"""Rows from memory, as a file that stands in for `data.path`.

They are written to the cache as .jsonl, named after their checksum, and read as any file is. So worker processes,
resuming and opening a run read them like any data, and equal rows are the same data.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gptlab.errors import MissingFileError, UserError
from gptlab.storage.atomic import atomic_files
from gptlab.storage.excerpts import excerpt, excerpt_names
from gptlab.storage.places import cache_dir

MEMORY = "memory://"  # of an address such as memory://0123456789abcdef.jsonl
ADDRESS = re.compile(rf"{MEMORY}([0-9a-f]{{16}}\.jsonl)")
EMPTY_CELLS = ("NAType", "NaTType")  # types of what pandas has in an empty cell, beside a NaN
KINDS = "a list of texts, of dicts or of conversations, a DataFrame, or a datasets.Dataset"


def store_rows(rows: Any, *, text_field: str) -> str:
    """Write rows to the cache; return their address for `data.path`.

    Args:
        rows: texts, dicts, or conversations, which are lists of messages; a DataFrame; a `datasets.Dataset`; or
            anything else that yields such rows.
        text_field: the key under which the reader looks for a text.

    Raises:
        UserError: there are no rows, or one cannot be written; the message names the row, counted from 0.
        OSError: the cache cannot be written.
    """
    folder, digest = _folder(), hashlib.sha256()
    with atomic_files(folder) as temporary:
        written = temporary / "rows"
        with written.open("wb") as file:
            for number, row in enumerate(_iterate(rows)):
                line = _line(row, text_field, f"row {number}")
                digest.update(line)
                file.write(line)
            if not file.tell():
                raise UserError(f"data has no rows: give {KINDS}")
            file.flush()
            os.fsync(file.fileno())
        name = f"{digest.hexdigest()[:16]}.jsonl"
        if (folder / name).exists():
            written.unlink()  # a file that is replaced would be read and tokenised anew
        else:
            written.rename(temporary / name)
    return MEMORY + name


def find_rows(address: str, *, key: str, endings: tuple[str, ...]) -> Path:
    """Return the file of an address.

    Args:
        key: of the address, for messages.
        endings: of the files that the reader reads.

    Raises:
        UserError: it is not the address of rows, or the reader does not read such rows.
        MissingFileError: the cache no longer has the rows.
    """
    match = ADDRESS.fullmatch(address)
    if match is None:
        raise UserError(f"{key}: {excerpt(address)} is not the address of rows from memory: give them with data=")
    if not address.endswith(endings):
        raise UserError(
            f"{key}: rows from memory are not read by this data's reader, which reads {' '.join(endings)}: choose "
            "data=text, csv, chat or preferences"
        )
    path = _folder() / match.group(1)
    if not path.is_file():
        raise MissingFileError(
            f"{key}={address}: the rows came from memory, and the cache has no {path}: give them again with "
            "Run.compose([...], data=rows), or a file of them"
        )
    return path


def _folder() -> Path:
    return cache_dir() / "memory"


def _iterate(rows: Any) -> Iterator[Any]:
    """Yield the rows of whatever was given; neither pandas nor datasets is imported."""
    if isinstance(rows, str | bytes | os.PathLike):
        raise UserError(f"data is {excerpt(rows)}, wanted rows: give [text], or the path of a file with data.path=")
    if isinstance(rows, Mapping):
        raise UserError(
            f"data is a {type(rows).__name__} of {excerpt_names(rows)}, wanted rows: give one of them, such as "
            f"data[{next(iter(rows), 'train')!r}], or {KINDS}"
        )
    if hasattr(rows, "itertuples"):  # pandas
        names = [str(name) for name in rows.columns]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(f"data has more than one column {excerpt_names(twice)}: rename or drop one")
        return (dict(zip(names, row, strict=True)) for row in rows.itertuples(index=False, name=None))
    if hasattr(rows, "iter_rows"):  # polars
        return rows.iter_rows(named=True)
    if hasattr(rows, "to_pylist"):  # pyarrow
        return iter(rows.to_pylist())
    try:
        return iter(rows)
    except TypeError:
        raise UserError(f"data is {excerpt(rows)}, wanted rows: {KINDS}") from None


def _line(row: Any, text_field: str, place: str) -> bytes:
    """Return a row as a line of .jsonl."""
    if isinstance(row, str):
        row = {text_field: row}
    elif isinstance(row, list | tuple) and row and all(isinstance(turn, Mapping) for turn in row):
        row = {"conversations" if "from" in row[0] else "messages": row}
    if not isinstance(row, Mapping):
        raise UserError(f"{place} is {excerpt(row)}, wanted a text, a dict, or a list of messages")
    try:
        values = {str(name): _plain(value, f"{place}: {str(name)!r:.60}") for name, value in row.items()}
        return json.dumps(values).encode() + b"\n"
    except RecursionError:
        raise UserError(f"{place} is nested too deeply: leave the column out") from None


def _plain(value: Any, place: str) -> Any:
    """Return a value as JSON has it; an empty cell is None.

    Raises:
        UserError: JSON has no such value.
    """
    if isinstance(value, float):
        if math.isinf(value):
            raise UserError(f"{place} is {value}, wanted a finite number: correct it, or leave the column out")
        return None if math.isnan(value) else value
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(item, place) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, place) for item in value]
    if hasattr(value, "tolist"):  # numpy's and torch's arrays and numbers
        return _plain(value.tolist(), place)
    if type(value).__name__ in EMPTY_CELLS:
        return None
    if hasattr(value, "isoformat"):  # dates
        return value.isoformat()
    raise UserError(
        f"{place} is a {type(value).__name__}, wanted a text, a number, or lists and dicts of them: leave it out"
    )
