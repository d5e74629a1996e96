"""Files that appear whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_replace(path: Path, *, locked: bool = False) -> Iterator[Path]:
    """Yield an empty temporary file that replaces `path` at the end.

    On an error the temporary file is deleted and `path` stays as it was. A power cut leaves the old file or the new.

    Args:
        locked: the caller holds the lock of `path`. All processes then use one temporary name, so that the leftover of
            a killed process is overwritten.
    """
    owner = "" if locked else f".{os.getpid()}"  # without a lock several processes may write the same file
    temporary = path.with_name(f".{path.name}{owner}.part")
    temporary.unlink(missing_ok=True)  # in a stranger's folder it may be a link to the user's own file
    try:
        temporary.open("xb").close()
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write(path: Path, text: str) -> None:
    """Write a UTF-8 text file, whole or not at all."""
    with atomic_replace(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


@contextmanager
def atomic_files(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder whose files replace those of `folder`.

    They are moved at the end. An error before that leaves `folder` unchanged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=folder) as temporary:
        yield Path(temporary)
        for path in sorted(Path(temporary).iterdir()):
            os.replace(path, folder / path.name)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk.

    Only then does a new name survive a power cut.
    """
    if hasattr(os, "O_DIRECTORY"):  # not on Windows
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
