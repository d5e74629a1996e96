"""The sha256 file beside each checkpoint.

It has the format of `sha256sum -c`. Without it, torch would load a tensor with a flipped bit without an error.
"""

import contextlib
import hashlib
import json
from pathlib import Path
from typing import IO

from gptlab.errors import UserError
from gptlab.storage.atomic import atomic_write
from gptlab.storage.files import open_regular, read_text
from gptlab.storage.places import cache_dir

MAX_CHECKSUM_BYTES = 1 << 16  # size limit of a checksum file, which has one or two lines


class HashingFile:
    """Writable file that hashes the written bytes."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.sha256 = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        """Write and hash bytes."""
        self.sha256.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        """Flush the file."""
        self.file.flush()


def file_sha256(path: Path) -> str:
    """Return a regular file's sha256 in hexadecimal.

    Raises:
        UserError: the path is a pipe, socket or device.
        OSError: the file cannot be read.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # its parameter has a private type


def announce_checksum(path: Path, digest: str) -> None:
    """Add a new file's checksum before it replaces the old file.

    The old and the new file both pass the check until `record_checksum` is called.
    """
    beside = checksum_path(path)
    old = beside.read_text(encoding="utf-8") if beside.exists() else ""
    atomic_write(beside, f"{digest}  {path.name}\n{old}")


def record_checksum(path: Path, digest: str) -> None:
    """Write a new file's checksum and note it as verified."""
    atomic_write(checksum_path(path), f"{digest}  {path.name}\n")
    _note(path, digest)


def check_checksum(path: Path) -> None:
    """Compare a file with the checksum beside it.

    A file without a checksum passes. A file that was verified and has not changed since is not read again.

    Raises:
        UserError: the file is damaged.
    """
    beside = checksum_path(path)
    if not beside.exists():
        return
    wanted = read_text(beside, limit=MAX_CHECKSUM_BYTES).split()
    if _noted(path) in wanted:
        return
    digest = file_sha256(path)
    if digest not in wanted:
        raise UserError(
            f"{path} is damaged: its sha256 is not the one in {beside.name}; take another checkpoint, or delete "
            f"{beside.name} to use the file anyway"
        )
    _note(path, digest)


def checksum_path(path: Path) -> Path:
    """Return the checksum file: `last.ckpt` -> `last.ckpt.sha256`."""
    return path.with_name(path.name + ".sha256")


def _noted(path: Path) -> str | None:
    """Return the digest noted for an unchanged file, else None."""
    try:
        digest, *state = json.loads(_note_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return digest if state == _state(path) else None


def _note(path: Path, digest: str) -> None:
    """Note a verified file in the user's cache."""
    with contextlib.suppress(OSError):  # without a note the file is hashed again
        note = _note_path(path)
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps([digest, *_state(path)]), encoding="utf-8")


def _note_path(path: Path) -> Path:
    return cache_dir() / "verified" / hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:24]


def _state(path: Path) -> list[int]:
    """Return the stat fields that change with a file's content.

    A copy never keeps st_ctime.
    """
    stat = path.stat()
    return [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
