"""Writing below the cache folder: one process at a time, whole or not at all, and a sentence where the disk refuses."""

import contextlib
import errno
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)

_TROUBLE = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "your quota is used up",
    errno.EACCES: "it may not be written to",
    errno.EROFS: "it may not be written to",
    errno.ENOTDIR: "a file is in its way",
}


@contextlib.contextmanager
def locked(path: Path, bytes_needed: Callable[[], int] = lambda: 0) -> Iterator[None]:
    """Around the making of a file or folder in the cache: its parent exists, and no other process makes it too.

    Args:
        bytes_needed: asked when the disk is full; 0 where nobody knows.

    Raises:
        OSError: the parent cannot be written, with what can be done about it.
    """
    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            yield
    except OSError as error:
        if error.errno not in _TROUBLE:
            raise
        needed = f", about {_megabytes(bytes_needed())} needed" if bytes_needed() else ""
        free = f" ({_megabytes(shutil.disk_usage(folder).free)} free{needed})" if folder.exists() else ""
        trouble = f"{folder} cannot be written: {_TROUBLE[error.errno]}{free}."
        raise OSError(f"{trouble} Make room, or choose another place with data.cache_dir=FOLDER.") from error


def safe_name(name: str) -> str:
    """Return a file name like one that a stranger chose: it ends the same, is short, and stays in its folder."""
    return re.sub(r"[^\w.+-]", "_", name, flags=re.ASCII)[-100:]


@contextlib.contextmanager
def atomic_replace(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its place if all goes well, and is gone if not."""
    temporary = path.with_name(f"{path.name}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = FileLock(f"{path}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("waiting for another process, which makes %s", path)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.1f} MB"
