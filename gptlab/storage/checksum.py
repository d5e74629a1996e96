"""A sha256 beside each checkpoint, as `sha256sum -c` reads it: a bit flipped inside a tensor loads without a word."""

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import IO

from gptlab.errors import UserError
from gptlab.storage.atomic import atomic_write
from gptlab.storage.files import open_regular, read_text
from gptlab.storage.places import cache_dir

MAX_CHECKSUM_BYTES = 1 << 16  # of the file that holds one or two lines


class HashingFile:
    """A file to write to that knows the sha256 of what went through it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.sha256 = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        """Writes and hashes."""
        self.sha256.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        """Hands on what is buffered."""
        self.file.flush()


def file_sha256(path: Path) -> str:
    """Return a regular file's sha256 in hexadecimal.

    Raises:
        UserError: the path is a pipe, socket or device.
        OSError: the file cannot be read.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # of io's private protocol


def replace_with_checksum(part: Path, path: Path, digest: str) -> None:
    """Move a written file to its place, its checksum with it, and note that it is verified.

    Between two renames the old file and the new one are both right, so for that moment both are noted.
    """
    beside = checksum_path(path)
    old = beside.read_text(encoding="utf-8") if beside.exists() else ""
    new = f"{digest}  {path.name}\n"
    atomic_write(beside, new + old)
    os.replace(part, path)
    atomic_write(beside, new)
    _note(path, digest)


def check_checksum(path: Path) -> None:
    """Compare a file with the checksum beside it; one without a checksum is taken as it is.

    A file that was verified, and has not been touched since, is not read again.

    Raises:
        UserError: the file is not what was written.
    """
    beside = checksum_path(path)
    if not beside.exists():
        return
    wanted = read_text(beside, limit=MAX_CHECKSUM_BYTES).split()
    if _noted(path) in wanted:
        return
    with open_regular(path) as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    if found not in wanted:
        raise UserError(
            f"{path} is damaged: it is not what {beside.name} says was written; take another checkpoint, or delete "
            f"{beside.name} to use the file all the same"
        )
    _note(path, found)


def checksum_path(path: Path) -> Path:
    """`last.ckpt` -> `last.ckpt.sha256`"""
    return path.with_name(path.name + ".sha256")


def _noted(path: Path) -> str | None:
    """Return the digest that was found when the file was as it is now; None where it has changed, or nobody looked."""
    try:
        digest, *state = json.loads(_note_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return digest if state == _state(path) else None


def _note(path: Path, digest: str) -> None:
    """Remember a verified file in the user's cache; the file's own folder stays as it is."""
    with contextlib.suppress(OSError):  # then it is hashed again next time
        note = _note_path(path)
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps([digest, *_state(path)]), encoding="utf-8")


def _note_path(path: Path) -> Path:
    return cache_dir() / "verified" / hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:24]


def _state(path: Path) -> list[int]:
    """Return what changes when a file's content does; no copy keeps the time of the last change of its entry."""
    stat = path.stat()
    return [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
