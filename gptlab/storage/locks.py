"""Lock files between processes."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)


@contextmanager
def locked(lock: Path, *, wait: bool, reentrant: bool = False) -> Iterator[None]:
    """Hold a lock file, one process at a time.

    The system releases the lock however the process ends; the file stays.

    Args:
        lock: the lock file itself, such as `Path(f"{path}.lock")` beside a path, or `folder / ".lock"` in a folder.
        reentrant: whether this process may hold the lock already, which it then took as reentrant too.
        wait: wait for another process that holds the lock, instead of raising.

    Raises:
        TimeoutError: another process holds the lock, and `wait` is false.
    """
    file_lock = FileLock(lock, is_singleton=reentrant)
    try:
        file_lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise
        log.info(f"waiting for another process that holds {lock}")
        file_lock.acquire()
    try:
        yield
    finally:
        file_lock.release()
