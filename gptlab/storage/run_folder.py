"""A run's folder: whose it is, and how far the run in it came. Needs no torch."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gptlab.errors import UserError
from gptlab.storage.atomic import atomic_write
from gptlab.storage.checksum import check_checksum
from gptlab.storage.files import read_json

MAX_SUMMARY_BYTES = 1 << 20
FINISHED = ("finished", "stopped early")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps others from training in the folder meanwhile; the system lets go of it however the process ends.

    Raises:
        UserError: somebody else does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise UserError(f"{folder} is being trained by another process: wait for it, or stop it first") from None


@contextmanager
def training_folder(folder: Path, *, resumes: bool) -> Iterator[None]:
    """The run's own folder while it trains; of several processes that train together, the first one sees to it.

    Raises:
        UserError: another process trains in it, or it holds a run already and this one does not go on with it.
    """
    if int(os.environ.get("LOCAL_RANK", 0)):
        yield
        return
    with locked(folder):
        if not resumes:
            claim_folder(folder)
        yield


def is_locked(folder: Path) -> bool:
    """Whether a process trains in it at this moment."""
    try:
        with locked(folder):
            return False
    except ValueError:
        return True


def claim_folder(folder: Path) -> None:
    """Makes it a new run's.

    Raises:
        UserError: it holds a run already.
    """
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    if any(checkpoints.glob("*.ckpt")):
        raise UserError(f"{folder} holds a run already: go on with it by resume={folder}, or give another output_dir")


def status(folder: Path) -> str:
    """What summary.json says: finished, stopped early, interrupted, failed; `unfinished` without one."""
    return str(read_summary(folder).get("status", "unfinished"))


def find_last(path: Path) -> Path:
    """The checkpoint that a run goes on from: of a run folder, or the file itself; whole, as its checksum says.

    Raises:
        FileNotFoundError: there is none.
        UserError: it is damaged, or holds weights only.
    """
    last = path / "checkpoints" / "last.ckpt" if path.is_dir() else path
    if last.name == "best.ckpt":
        raise UserError(f"resume={path}: it holds weights only; last.ckpt beside it holds all that is needed to go on")
    if not path.exists():
        raise FileNotFoundError(f"resume={path}: there is no such folder or file: give a run's folder")
    if last.absolute().parent.name != "checkpoints":
        raise UserError(f"resume={path}: a run is resumed in its own folder, from its checkpoints/last.ckpt: give that")
    if not last.is_file():
        raise FileNotFoundError(f"resume={path}: no checkpoints/last.ckpt is in it, so there is nothing to go on from")
    check_checksum(last)
    return last


def read_summary(folder: Path) -> dict[str, Any]:
    """Return what summary.json says; nothing where it is not there, or is no JSON object."""
    try:
        found = read_json(folder / "summary.json", limit=MAX_SUMMARY_BYTES)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


JOB_RECORD = "status.json"  # in each job's folder: what it was to do, and what became of it


def read_job_record(folder: Path) -> dict[str, Any]:
    """What the folder's job was to do and what became of it; empty where there is no job."""
    path = folder / JOB_RECORD
    return read_json(path) if path.is_file() else {}


def write_job_record(folder: Path, record: dict[str, Any]) -> None:
    """The inverse; no reader ever sees half a file."""
    atomic_write(folder / JOB_RECORD, json.dumps(record, indent=2, allow_nan=False) + "\n")
