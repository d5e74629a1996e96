"""The jobs that `gptlab leaderboard run=` means: of a sweep, or any runs."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gptlab.config.plain import Config
from gptlab.config.run_paths import outputs_folder
from gptlab.errors import MissingFileError, UnusablePathError, nearest
from gptlab.storage.excerpts import excerpt_path
from gptlab.storage.files import expand_path
from gptlab.storage.foreign.kind import is_run
from gptlab.storage.run_folder import JOB_RECORD
from gptlab.storage.runs import LAST, find_runs
from gptlab.sweeps.leaderboard.board import Board
from gptlab.sweeps.leaderboard.records import MAX_JOBS, Job, read_jobs, with_latest
from gptlab.sweeps.leaderboard.run_set import read_runs
from gptlab.sweeps.leaderboard.sweep_record import OPTIONS, Options, read_options

MAX_DEPTH = 4  # folders between the searched one and a sweep
N_SHOWN = 5


class FoundJobs(NamedTuple):
    """Jobs to rank."""

    jobs: list[Job]
    sweep: Path | None  # the folder of the one sweep that they are of
    note: str | None  # what was searched for, and found


def find_jobs(run: Any) -> FoundJobs:
    """Return the jobs that a value of `run=` stands for.

    Args:
        run: a sweep's folder or name, `last`, a folder with runs, or a list of such.

    Raises:
        MissingFileError: there is no such sweep or run.
    """
    paths = [str(path) for path in (run if isinstance(run, list) else [run])]
    found = [_find(path) for path in paths]
    if len(found) == 1 and is_sweep(found[0][0]):
        folder, note = found[0]
        return FoundJobs(read_jobs(folder), folder, note)
    notes = "\n".join(note for _, note in found if note)
    folders = list(dict.fromkeys(each for folder, _ in found for each in _runs_below(folder)))
    if not folders:
        raise MissingFileError(f"{', '.join(map(excerpt_path, paths))} holds no run: give a sweep, or folders of runs")
    return FoundJobs(with_latest(read_runs(folders[:MAX_JOBS])), None, notes or None)


def make_board(found: FoundJobs, cfg: Config) -> Board:
    """Return the answer; options that are null are the sweep's own."""
    own = read_options(found.sweep) if found.sweep else OPTIONS
    given = {name: cfg[name] for name in Options._fields if cfg[name] is not None}
    return Board(found.jobs, str(found.sweep or ""), own._replace(**given))


def target_folder(found: FoundJobs, to: str | None) -> Path | None:
    """Return the folder of the leaderboard's files: the named one, which is made, or the sweep's; None for other runs.

    Raises:
        UnusablePathError: it cannot be made.
    """
    if to is None:
        return found.sweep
    folder = expand_path(to, key="to")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnusablePathError(f"to={excerpt_path(to)}: cannot be made ({error}): name another folder") from error
    return folder


def is_sweep(folder: Path) -> bool:
    """Return whether a folder is that of a sweep: it holds jobs."""
    return any(folder.glob(f"*/{JOB_RECORD}"))


def find_sweeps(folder: Path) -> list[Path]:
    """Return the sweeps below a folder, the newest first."""
    return sorted(_walk(folder), key=lambda sweep: (sweep.stat().st_mtime, sweep.name), reverse=True)


def missing_sweep() -> str:
    """Return the message for a missing `run=`, with the newest sweeps to choose from."""
    return f"run is missing: {_advice(find_sweeps(outputs_folder()))}"


def _find(text: str) -> tuple[Path, str | None]:
    """Return the folder of a sweep, a run or runs, and a note if it was searched for.

    Raises:
        MissingFileError: there is none.
    """
    given = excerpt_path(text)
    path = expand_path(text, key="run") if text else Path(LAST)
    if path.is_dir():
        sweeps = [] if is_sweep(path) or is_run(path) else find_sweeps(path)
        return (path, None) if not sweeps else _newest(sweeps, f"below {given}", given)
    root = outputs_folder()
    sweeps = find_sweeps(root)
    if named := [sweep for sweep in sweeps if text == LAST or text in sweep.relative_to(root).parts]:
        return _newest(named, f"below {root}" if text == LAST else f"named {given} below {root}", given)
    if len(path.parts) == 1 and (root / path).is_dir() and _runs_below(root / path):
        return root / path, f"run={given} is the runs in {root / path}"
    guess = nearest(path.name, {name for sweep in sweeps for name in sweep.relative_to(root).parts[:-1]})
    raise MissingFileError(
        f"run={given}: there is no such folder, and no sweep of that name below {root}{guess}: {_advice(sweeps)}"
    )


def _newest(sweeps: Sequence[Path], where: str, given: str) -> tuple[Path, str]:
    count = f"the newest of {len(sweeps):,} sweeps" if len(sweeps) > 1 else "the only sweep"
    return sweeps[0], f"run={given} is {sweeps[0]}, {count} {where}"


def _advice(sweeps: Sequence[Path]) -> str:
    if not sweeps:
        return "give the folder of a sweep, which `python train.py -m` writes, or folders of runs, 'run=[A, B]'"
    more = [f"and {len(sweeps) - N_SHOWN:,} more"] if len(sweeps) > N_SHOWN else []
    shown = [excerpt_path(str(sweep)) for sweep in sweeps[:N_SHOWN]]
    return "\n  ".join([f"give run={LAST} for the newest sweep, or one of these", *shown, *more])


def _runs_below(folder: Path) -> list[Path]:
    """Return a run, or the runs below a folder in the order of their names, those without a checkpoint too."""
    if is_run(folder) or (folder / "summary.json").is_file():
        return [folder]
    started = (path.parents[1] for path in folder.glob("*/.hydra/config.yaml"))
    return sorted({*started, *(run.folder for run in find_runs(folder))})


def _walk(folder: Path) -> Iterator[Path]:
    for root, names, _ in os.walk(folder):
        here = Path(root)
        if is_run(here):
            names.clear()
        elif is_sweep(here):
            yield here
            names.clear()
        elif len(here.relative_to(folder).parts) >= MAX_DEPTH:
            names.clear()
        else:
            names[:] = [name for name in names if not name.startswith(".")]
