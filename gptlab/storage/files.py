"""Reading files that may come from anybody: regular files only, bounded in size and depth."""

import json
import os
import stat
from pathlib import Path
from typing import IO, Any

MAX_JSON_BYTES = 256 << 20  # of a JSON file that describes a model; the largest tokenizer.json has about 35 MB


def open_regular(path: Path) -> IO[bytes]:
    """Open a regular file for reading, without waiting for a pipe or a device.

    Raises:
        ValueError: the path is a pipe, socket or device, from which reading may never end.
        OSError: the file cannot be opened.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ValueError(f"{path} is no regular file: give a file, not a folder, pipe or device")
    return open(handle, "rb")


def read_bytes(path: Path, *, limit: int = MAX_JSON_BYTES) -> bytes:
    """Return a regular file's content.

    Raises:
        ValueError: it is no regular file, or has more than `limit` bytes.
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise ValueError(f"{path} has {size:,} bytes, more than the {limit:,} that such a file may have")
        return file.read(limit)


def read_text(path: Path, *, limit: int = MAX_JSON_BYTES) -> str:
    """Return a regular file's text.

    Raises:
        ValueError: also where the file is not UTF-8.
        OSError: it cannot be read.
    """
    try:
        return read_bytes(path, limit=limit).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 at byte {error.start}: save or fetch it anew") from error


def parse_json(text: str | bytes, place: str) -> Any:
    """Return a JSON text's value.

    Args:
        place: where the text stands, for the message.

    Raises:
        ValueError: it is not JSON, nested too deeply, or holds a number of thousands of digits.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(f"{place}: not JSON (nested too deeply)") from None
    except ValueError as error:  # malformed, not UTF-8, or an integer of more digits than Python converts
        raise ValueError(f"{place}: not JSON ({error})") from error


def read_json(path: Path, *, limit: int = MAX_JSON_BYTES) -> Any:
    """Return the value of a JSON file.

    Raises:
        ValueError: it is no regular file, larger than `limit` bytes, or not JSON.
        OSError: it cannot be read.
    """
    return parse_json(read_text(path, limit=limit), str(path))
