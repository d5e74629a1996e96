"""The journal of a search, a file in the sweep's folder.

It is the journal of Optuna's `JournalStorage`: one line of JSON for each change, which other tools can read.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from gptlab.errors import UserError

if TYPE_CHECKING:
    from optuna.storages.journal import JournalStorage

JOURNAL = "study.journal"
LOCKS = ".locks"  # the folder of lock files beside it
STUDY = "search"  # the name of its study, in Optuna's terms


class JournalLock:
    """A lock for the journal, which the system releases however the process ends.

    Optuna's own locks are files, which a killed process leaves behind. Whoever takes this one removes the half of a
    line that a killed process may have written.
    """

    def __init__(self, journal: Path) -> None:
        self.journal, self.lock = journal, FileLock(journal.parent / LOCKS / "journal")

    def acquire(self) -> bool:
        """Wait for the lock."""
        self.lock.acquire()
        with self.journal.open("rb+") as file:
            content = file.read()
            if not content.endswith(b"\n"):
                file.truncate(content.rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        """Release the lock."""
        self.lock.release()


def is_search(sweep: Path) -> bool:
    """Return whether a sweep is a search."""
    return (sweep / JOURNAL).is_file()


def open_journal(sweep: Path) -> "JournalStorage":
    """Open the journal in a sweep's folder, and create it if there is none.

    Raises:
        UserError: it is damaged.
    """
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    path = sweep / JOURNAL
    (sweep / LOCKS).mkdir(parents=True, exist_ok=True)
    backend = JournalFileBackend(str(path), lock_obj=JournalLock(path))  # type: ignore[arg-type]
    try:
        return JournalStorage(backend)
    except OSError:
        raise
    except Exception as error:  # whatever the replay of a damaged line raises
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise UserError(
            f"{path} is damaged ({reason}): put an intact copy in its place, or choose another hydra.sweep.dir"
        ) from error
