"""The runs below a folder, newest first.

This module does not import torch.
"""

import os
import shlex
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from gptlab.errors import MissingFileError, UserError, nearest
from gptlab.storage.excerpts import excerpt_path
from gptlab.storage.files import expand_path
from gptlab.storage.foreign.kind import is_run
from gptlab.storage.run_folder import FINISHED, read_summary, trained_metrics

LAST = "last"  # instead of a path: the newest run of all
MAX_DEPTH = 4  # folders between the searched one and a run: sweeps/<name>/<date_time>/<job>
N_SHOWN = 5


class FoundRun(NamedTuple):
    """A run with a checkpoint."""

    folder: Path
    started: float  # seconds since 1970 at its start, or when it was last resumed


class ChosenPath(NamedTuple):
    """A path to open, and a note if it was searched for."""

    path: str
    note: str | None


def find_runs(folder: Path) -> list[FoundRun]:
    """Return the runs below a folder that can be opened, the newest first."""
    return sorted(_walk(folder), key=lambda run: (run.started, run.folder.name), reverse=True)


def choose_run(text: str, outputs: Callable[[], Path], *, key: str = "run") -> ChosenPath:
    """Return the path that a value of `run=` stands for.

    A run, a file or a published folder is taken as it is. `last` is the newest run of all; another folder is the newest
    run below it; a name is the newest run with that name in its path.

    Args:
        outputs: returns the folder that runs are written below, when it is needed.
        key: the key that has the value, for messages.

    Raises:
        MissingFileError: there is no such run.
        UserError: the path is empty or invalid.
    """
    if not text:  # an unset variable of the shell, perhaps
        raise UserError(f"{key} is empty: give a run's folder, or {key}={LAST} for the newest run")
    path, given = expand_path(text, key=key), excerpt_path(text)
    if path.is_file() or is_run(path) or (path / "config.json").is_file():
        return ChosenPath(text, None)
    if path.is_dir() and (found := find_runs(path)):
        return _newest(found, f"below {given}", f"{key}={given}")
    if len(path.parts) > 1 and (path.is_dir() or outputs() not in path.parents):  # a path, or a name on the hub
        return ChosenPath(text, None)
    root = outputs()
    found = find_runs(root)
    if named := [run for run in found if text == LAST or text in run.folder.relative_to(root).parts]:
        return _newest(named, f"below {root}" if text == LAST else f"named {given} below {root}", f"{key}={given}")
    if path.is_dir():
        return ChosenPath(text, None)
    guess = nearest(path.name, {name for run in found for name in run.folder.relative_to(root).parts[:-1]})
    missing = (
        f"{key}={given}: there is no such folder or file, and no run of that name with a checkpoint below {root}{guess}"
    )
    raise MissingFileError(f"{missing}: {_advice(found, f'give {key}={LAST} for the newest run, or one of these')}")


def missing_run(outputs: Path, *, several: bool) -> str:
    """Return the message for a missing `run=`, with the newest runs to choose from."""
    one = f"give run={LAST} for the newest run, or one of these"
    many = "give two or more, 'run=[A, B]', such as these"
    return f"run is missing: {_advice(find_runs(outputs), many if several else one)}"


def _advice(found: list[FoundRun], wanted: str) -> str:
    """Return the end of a message: what to give, and the newest runs."""
    if not found:
        return "give the folder of a run or a model; `gptlab train` trains a first run"
    rows = [_row(run) for run in found[:N_SHOWN]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    more = [f"and {len(found) - N_SHOWN:,} more"] if len(found) > N_SHOWN else []
    return "\n  ".join([wanted, *lines, *more])


def _row(run: FoundRun) -> list[str]:
    """Return a run's folder, time, task, metric, and its status if it is not complete."""
    summary = read_summary(run.folder)
    try:
        metrics: Any = trained_metrics(summary)
        name = summary.get("monitor") if summary.get("monitor") in metrics else next(iter(metrics))
        metric = f"{str(name).removeprefix('val/')} {metrics[name]:.4g}"
    except (KeyError, TypeError, ValueError, StopIteration):  # no validation yet, or not our summary
        metric = ""
    status = str(summary.get("status", "unfinished"))
    cells = [str(summary.get("task", "")), metric, "" if status in FINISHED else status]
    when = datetime.fromtimestamp(run.started).strftime("%d %b %H:%M")
    return [shlex.quote(excerpt_path(str(run.folder))), when, *(" ".join(cell[:40].split()) for cell in cells)]


def _newest(found: list[FoundRun], where: str, given: str) -> ChosenPath:
    count = f"the newest of {len(found):,} runs" if len(found) > 1 else "the only run"
    return ChosenPath(str(found[0].folder), f"{given} is {found[0].folder}, {count} {where}")


def _walk(folder: Path) -> Iterator[FoundRun]:
    for root, names, _ in os.walk(folder):
        here = Path(root)
        if is_run(here):
            yield FoundRun(here, _started(here))
            names.clear()
        elif len(here.relative_to(folder).parts) >= MAX_DEPTH:
            names.clear()
        else:
            names[:] = [name for name in names if not name.startswith(".")]


def _started(run: Path) -> float:
    """Return when a run began, or was last resumed: when Hydra wrote its configuration."""
    written = [*run.glob(".hydra/config.yaml"), *run.glob(".hydra/resume_*/config.yaml")]
    return max(path.stat().st_mtime for path in written or (run / "checkpoints").glob("*.ckpt"))
