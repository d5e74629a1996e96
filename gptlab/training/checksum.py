"""A sha256 beside each checkpoint, as `sha256sum -c` reads it: a bit flipped inside a tensor loads without a word."""

import hashlib
import os
from pathlib import Path
from typing import IO

from gptlab.training.text_files import replace_text


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


def replace_with_checksum(part: Path, path: Path, digest: str) -> None:
    """Moves a written file to its place, its checksum with it.

    Between two renames the old file and the new one are both right, so for that moment both are noted.
    """
    beside = checksum_path(path)
    old = beside.read_text(encoding="utf-8") if beside.exists() else ""
    new = f"{digest}  {path.name}\n"
    replace_text(beside, new + old)
    os.replace(part, path)
    replace_text(beside, new)


def check_checksum(path: Path) -> None:
    """Reads the whole file; one without a checksum beside it is taken as it is.

    Raises:
        ValueError: the file is not what was written.
    """
    beside = checksum_path(path)
    if not beside.exists():
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found not in beside.read_text(encoding="utf-8").split():
        raise ValueError(
            f"{path} is damaged: it is not what {beside.name} says was written; take another checkpoint, or delete "
            f"{beside.name} to use the file all the same"
        )


def checksum_path(path: Path) -> Path:
    """`last.ckpt` -> `last.ckpt.sha256`"""
    return path.with_name(path.name + ".sha256")
