"""Locked entries of the cache folder."""

import contextlib
import errno
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from gptlab.errors import UnusablePathError
from gptlab.storage.locks import locked

DISK_ERRORS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "your quota is used up",
    errno.EACCES: "it may not be written to",
    errno.EROFS: "it may not be written to",
    errno.ENOTDIR: "a file is in its way",
}


@contextlib.contextmanager
def locked_entry(path: Path, bytes_needed: Callable[[], int] = lambda: 0) -> Iterator[None]:
    """Hold the lock of a cache entry.

    The entry is a file or folder; its parent folder is created.

    Args:
        bytes_needed: called when the disk is full; returns 0 if the size is unknown.

    Raises:
        OSError: the folder cannot be written; the message gives a remedy.
    """
    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(Path(f"{path}.lock"), wait=True):
            yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        needed = f", about {_megabytes(bytes_needed())} needed" if bytes_needed() else ""
        free = f" ({_megabytes(shutil.disk_usage(folder).free)} free{needed})" if folder.exists() else ""
        raise UnusablePathError(
            f"{folder} cannot be written, {DISK_ERRORS[error.errno]}{free}: make room, or choose another folder with "
            "data.cache_dir=FOLDER"
        ) from error


def safe_name(name: str) -> str:
    """Return a safe file name for an untrusted one.

    It is short, stays in its folder, and keeps the ending.
    """
    return re.sub(r"[^\w.+-]", "_", name, flags=re.ASCII)[-100:]


def _megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.1f} MB"
