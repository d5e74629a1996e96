"""Reading files that may come from anybody: regular files only, bounded in size and depth."""

import json
import os
import stat
from pathlib import Path
from typing import IO, Any

from gptlab.errors import UserError

MAX_NAME = 255  # characters of a file's or folder's name, of which systems take no more
MAX_JSON_BYTES = 256 << 20  # of a JSON file that describes a model; the largest tokenizer.json has about 35 MB


def open_regular(path: Path) -> IO[bytes]:
    """Open a regular file for reading, without waiting for a pipe or a device.

    Raises:
        UserError: the path is a pipe, socket or device, from which reading may never end.
        OSError: the file cannot be opened.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UserError(f"{path} is no regular file: give a file, not a folder, pipe or device")
    return open(handle, "rb")


def read_bytes(path: Path, *, limit: int = MAX_JSON_BYTES) -> bytes:
    """Return a regular file's content.

    Raises:
        UserError: it is no regular file, or has more than `limit` bytes.
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise UserError(f"{path} has {size:,} bytes, more than the {limit:,} that such a file may have")
        return file.read(limit)


def read_text(path: Path, *, limit: int = MAX_JSON_BYTES) -> str:
    """Return a regular file's text.

    Raises:
        UserError: also where the file is not UTF-8.
        OSError: it cannot be read.
    """
    try:
        return read_bytes(path, limit=limit).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 at byte {error.start}: save or fetch it anew") from error


def parse_json(text: str | bytes, place: str) -> Any:
    """Return a JSON text's value.

    Args:
        place: where the text stands, for the message.

    Raises:
        UserError: it is not JSON, nested too deeply, or holds a number of thousands of digits.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise UserError(f"{place}: not JSON (nested too deeply)") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{place}: not JSON ({error})") from error
    except ValueError as error:  # Python converts no more than 4,300 digits
        raise UserError(f"{place}: not JSON (a number of thousands of digits)") from error


def read_json(path: Path, *, limit: int = MAX_JSON_BYTES) -> Any:
    """Return the value of a JSON file.

    Raises:
        UserError: it is no regular file, larger than `limit` bytes, or not JSON.
        OSError: it cannot be read.
    """
    return parse_json(read_text(path, limit=limit), str(path))


def read_object(path: Path, *, limit: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """Return the JSON object in a file that was published.

    Raises:
        UserError: it is no regular file, larger than `limit` bytes, not JSON, or another value.
        OSError: it cannot be read.
    """
    try:
        content = parse_json(read_bytes(path, limit=limit), str(path))
    except ValueError as error:
        raise UserError(f"{error}: fetch it anew") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, wanted an object: fetch it anew")
    return content


def expand_path(path: str, *, key: str) -> Path:
    """Return the path that somebody typed, `~` and `~name` replaced by the home folder.

    Args:
        key: what the path is called where it was given, for the message.

    Raises:
        UserError: no path can be so, or nobody of that name has a home folder.
    """
    if "\0" in path:
        raise UserError(f"{key} is {path!r:.200}, and no path holds a NUL: leave it out")
    if any(len(part) > MAX_NAME for part in path.split("/")):
        raise UserError(f"{key} is {path!r:.100}..., a name of more than {MAX_NAME} characters: give a shorter one")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"{key} is {path!r:.200}, and there is no such user here: give the whole path") from None
