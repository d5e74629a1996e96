"""A run's folder: its lock, status and summary.

This module does not import torch.
"""

import json
import logging
import os
import shutil
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from itertools import count
from pathlib import Path
from typing import Any

from gptlab.errors import MissingFileError, UnusablePathError, UserError
from gptlab.storage.atomic import atomic_write
from gptlab.storage.checksum import check_checksum
from gptlab.storage.excerpts import excerpt_path
from gptlab.storage.files import read_json
from gptlab.storage.foreign.recognition import recognised
from gptlab.storage.locks import locked

log = logging.getLogger(__name__)

MAX_SUMMARY_BYTES = 1 << 20  # size limit of summary.json
PRUNED = "pruned"  # status of a search's trial that was ended because it was hopeless
FINISHED = ("finished", "stopped early", PRUNED)  # statuses of a complete run


@contextmanager
def lock_run(folder: Path, *, reentrant: bool = False) -> Iterator[None]:
    """Lock a run's folder against other training processes.

    Args:
        reentrant: see `locked`.

    Raises:
        UserError: another process trains in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with locked(folder / ".lock", wait=False, reentrant=reentrant):
            yield
    except TimeoutError:
        raise UserError(f"{folder} is being trained by another process: wait for it, or stop it first") from None


def is_main_process() -> bool:
    """Return whether this process writes the run's files: the first one, on the first machine."""
    return not any(int(os.environ.get(name, 0)) for name in ("LOCAL_RANK", "NODE_RANK", "GROUP_RANK"))


@contextmanager
def begin_run(folder: Path, *, dated: bool, resumes: bool) -> Iterator[Path]:
    """Yield the run's folder, locked from before its first file.

    If training never begins, for an error or Ctrl-C, what was written into it is deleted: the whole folder unless it
    was there before. Only rank 0 does so.

    Args:
        folder: the folder of the configuration.
        dated: as for `create_folder`.
        resumes: it is the folder of the run that is resumed.

    Raises:
        UserError: another process trains in the folder, it holds a run that is not being resumed, or it cannot be made.
    """
    if not is_main_process() or resumes:
        with lock_run(folder, reentrant=True) if is_main_process() else nullcontext():
            yield folder
        return
    made = missing_folders(folder)
    try:
        folder = create_folder(folder, dated=dated)
    except UserError:
        remove_empty(made)
        raise
    before = {path.name for path in folder.iterdir()}
    try:
        with lock_run(folder, reentrant=True):
            try:
                claim_folder(folder)
                yield folder
            except BaseException:
                discard_unbegun(folder, keep={*before, ".lock"})
                raise
    finally:
        if {path.name for path in folder.iterdir()} - before == {".lock"}:
            (folder / ".lock").unlink()
        remove_empty({folder, *made})


def create_folder(folder: Path, *, dated: bool) -> Path:
    """Create the folder of a run or sweep, and return it.

    Args:
        dated: its name says when it was made, so it must not exist yet: the second of two that are made in the same
            second has `_2` at its end.

    Raises:
        UnusablePathError: it cannot be made.
    """
    for number in count(1):
        numbered = folder if number == 1 else folder.with_name(f"{folder.name}_{number}")
        try:
            numbered.mkdir(parents=True, exist_ok=not dated)  # atomic: one process makes it, all others fail
            return numbered
        except OSError as error:
            if not (dated and isinstance(error, FileExistsError)):
                raise UnusablePathError(
                    f"{numbered} cannot be made ({error}): choose another folder, with output_dir= for a run, or "
                    "hydra.sweep.dir= for a sweep"
                ) from error
    raise AssertionError


def missing_folders(folder: Path) -> list[Path]:
    """Return the folder and its parents that do not exist yet."""
    return [path for path in (folder, *folder.parents) if not os.path.exists(path)]  # Path.exists can raise


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove those of the folders that are empty, inner ones first."""
    for folder in sorted(folders, key=lambda path: -len(path.parts)):
        with suppress(OSError):
            folder.rmdir()


def has_begun(folder: Path) -> bool:
    """Return whether training began in the folder: there is a checkpoint or a summary."""
    return (folder / "summary.json").exists() or any((folder / "checkpoints").glob("*.ckpt"))


def discard_unbegun(folder: Path, *, keep: Container[str]) -> None:
    """Delete what a run wrote into its folder before training, unless training began.

    Args:
        keep: names in the folder that stay.
    """
    if has_begun(folder):
        return
    root = logging.getLogger()
    for handler in [one for one in root.handlers if isinstance(one, logging.FileHandler)]:
        if Path(handler.baseFilename).parent == folder.absolute():  # an open file cannot be deleted on Windows
            root.removeHandler(handler)
            handler.close()
    for path in folder.iterdir():
        if path.name not in keep:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


@contextmanager
def training_folder(folder: Path, *, resumes: bool) -> Iterator[None]:
    """Lock the run's folder during training.

    A new run also claims the folder. Only rank 0 does either.

    Raises:
        UserError: another process trains in the folder, or it holds a run that is not being resumed.
    """
    if not is_main_process():
        yield
        return
    with lock_run(folder, reentrant=True):
        if not resumes:
            claim_folder(folder)
        yield


def is_locked(folder: Path) -> bool:
    """Return whether a process is training in the folder."""
    try:
        with lock_run(folder):
            return False
    except ValueError:
        return True


def claim_folder(folder: Path) -> None:
    """Create the folder of a new run.

    Raises:
        UserError: the folder holds a run already.
    """
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    if any(checkpoints.glob("*.ckpt")):
        raise UserError(f"{folder} holds a run already: resume it with resume={folder}, or give another output_dir")


def read_status(folder: Path) -> str:
    """Return the status in summary.json.

    It is finished, stopped early, pruned, out of time, interrupted, failed or training; `unfinished` without a summary.
    """
    return str(read_summary(folder).get("status", "unfinished"))


def folder_of(checkpoint: Path) -> Path:
    """Return the folder of the run that a checkpoint belongs to."""
    folder = checkpoint.absolute().parent
    return folder.parent if folder.name == "checkpoints" else folder


def find_last(path: Path) -> Path:
    """Return the checkpoint to resume from, its checksum verified.

    Args:
        path: a run folder, or the checkpoint itself.

    Raises:
        FileNotFoundError: there is no checkpoint.
        UserError: the checkpoint is damaged, holds only weights, or does not lie in a run folder.
    """
    with recognised(path):
        last = _find_last(path)
    check_checksum(last)
    return last


def _find_last(path: Path) -> Path:
    last = path / "checkpoints" / "last.ckpt" if path.is_dir() else path
    if last.name == "best.ckpt":
        raise UserError(
            f"resume={path}: it holds only weights: give last.ckpt beside it, which holds the whole training state"
        )
    if not path.exists():
        raise MissingFileError(f"resume={path}: there is no such folder or file: give a run folder")
    if last.absolute().parent.name != "checkpoints":
        raise UserError(
            f"resume={path}: it is not in a run's checkpoints folder: give a run folder, or its checkpoints/last.ckpt"
        )
    if not last.is_file() and (path / "config.json").is_file():
        raise MissingFileError(
            f"resume={path}: it is a model folder, which holds no training to resume: start from it with weights=hf "
            f"weights.path={path}"
        )
    if not last.is_file():
        raise MissingFileError(
            f"resume={path}: it holds no checkpoints/last.ckpt to resume from: give another run folder"
        )
    return last


def read_summary(folder: Path) -> dict[str, Any]:
    """Return the content of summary.json, empty if it cannot be read."""
    try:
        summary = read_json(folder / "summary.json", limit=MAX_SUMMARY_BYTES)
    except (OSError, ValueError):
        return {}
    return summary if isinstance(summary, dict) else {}


def warn_if_worse(path: Path) -> None:
    """Log that the weights which a run started from are better than its own.

    The path may be anything, and the run anybody's.
    """
    summary = read_summary(path)
    weights, step = summary.get("started_from"), summary.get("best_step")
    if type(step) is int and step == 0 and isinstance(weights, str):
        log.warning(f"{path}: its weights are worse than those it started from: {excerpt_path(weights)}")


def trained_metrics(summary: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics of a run's best validation after a step.

    Those of the last one if no callback tracked the best. The weights that a run started from do not count, so that
    runs are compared by what training did.
    """
    best = summary["best_trained"] if "best_trained" in summary else summary["best"]
    return best or summary["val"]


JOB_RECORD = "status.json"  # in each job's folder: its overrides, status and result


def read_job_record(folder: Path) -> dict[str, Any]:
    """Return the record of the folder's job, empty without one."""
    path = folder / JOB_RECORD
    return read_json(path) if path.is_file() else {}


def write_job_record(folder: Path, record: dict[str, Any]) -> None:
    """Write the record of the folder's job."""
    atomic_write(folder / JOB_RECORD, json.dumps(record, indent=2, allow_nan=False) + "\n")
