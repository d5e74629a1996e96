"""Reading of untrusted files, bounded in size and depth."""

import json
import os
import stat
from pathlib import Path
from typing import IO, Any

from gptlab.errors import UserError

MAX_NAME_BYTES = 255  # limit of a file or folder name on common file systems
MAX_PATH_BYTES = 4095  # limit of a whole path on Linux
MAX_JSON_BYTES = 256 << 20  # size limit of a JSON file; the largest published tokenizer.json has about 35 MB


def open_regular(path: Path) -> IO[bytes]:
    """Open a regular file for reading, never a pipe or device.

    Raises:
        UserError: the path is a pipe, socket or device, on which reading may block forever.
        OSError: the file cannot be opened.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UserError(f"{path} is not a regular file: give a file instead of a folder, pipe or device")
    return open(handle, "rb")


def read_bytes(path: Path, *, limit: int = MAX_JSON_BYTES) -> bytes:
    """Return a regular file's bytes.

    Raises:
        UserError: the file is not regular, or has more than `limit` bytes.
        OSError: the file cannot be read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise UserError(f"{path} has {size:,} bytes, more than the {limit:,} allowed: give a smaller file")
        return file.read(limit)


def read_text(path: Path, *, limit: int = MAX_JSON_BYTES) -> str:
    """Return a regular file's text.

    Raises:
        UserError: the file is not regular, too large, or not UTF-8.
        OSError: the file cannot be read.
    """
    try:
        return read_bytes(path, limit=limit).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 at byte {error.start}: save it as UTF-8, or fetch it again") from error


def parse_json(text: str | bytes, place: str) -> Any:
    """Return a JSON text's value.

    Args:
        place: the text's file or line, for the message.

    Raises:
        UserError: the text is not JSON, is nested too deeply, or holds a number of thousands of digits.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise UserError(f"{place}: not JSON (nested too deeply)") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{place}: not JSON ({error})") from error
    except ValueError as error:  # Python converts at most 4,300 digits
        raise UserError(f"{place}: not JSON (a number of thousands of digits)") from error


def read_json(path: Path, *, limit: int = MAX_JSON_BYTES) -> Any:
    """Return the value of a JSON file.

    Raises:
        UserError: the file is not regular, has more than `limit` bytes, or is not JSON.
        OSError: the file cannot be read.
    """
    return parse_json(read_text(path, limit=limit), str(path))


def read_object(path: Path, *, limit: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """Return the JSON object in a downloaded file.

    Raises:
        UserError: the file is not regular, has more than `limit` bytes, is not JSON, or holds another value.
        OSError: the file cannot be read.
    """
    try:
        content = parse_json(read_bytes(path, limit=limit), str(path))
    except ValueError as error:
        raise UserError(f"{error}: fetch it again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, wanted an object: fetch it again")
    return content


def expand_path(path: str, *, key: str) -> Path:
    """Expand `~` and `~name` in a path that the user typed.

    Args:
        key: the configuration key of the path, for the message.

    Raises:
        UserError: the path is invalid, or no such user has a home folder.
    """
    if "\0" in path:
        raise UserError(f"{key} is {path!r:.200}, which holds a NUL character: leave it out")
    try:
        sizes = [len(os.fsencode(part)) for part in path.split("/")]
    except UnicodeEncodeError as error:
        character = error.object[error.start]
        raise UserError(f"{key} is {path!r:.200}, and no file's name can hold {character!r}: leave it out") from None
    if max(sizes) > MAX_NAME_BYTES or sum(sizes) + len(sizes) > MAX_PATH_BYTES:
        raise UserError(
            f"{key} is {path!r:.100}...: wanted names of at most {MAX_NAME_BYTES} bytes, and {MAX_PATH_BYTES:,} in all"
        )
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"{key} is {path!r:.200}, and this machine has no such user: give the whole path") from None
