"""Hydra's callback of a sweep: one folder, and the leaderboard at the end."""

import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from hydra.types import RunMode
from omegaconf import DictConfig, read_write

from gptlab.config.command import is_dated
from gptlab.config.hydra_internals import HydraCallback, JobReturn
from gptlab.config.plain import references
from gptlab.config.run_paths import quoted
from gptlab.errors import UserError
from gptlab.storage.run_folder import JOB_RECORD, create_folder, missing_folders, remove_empty
from gptlab.sweeps.leaderboard.records import PRUNED, Job
from gptlab.sweeps.leaderboard.sweep_record import check_options
from gptlab.sweeps.search.journal import JOURNAL, LOCKS, is_search

WRITTEN = ("leaderboard.csv", "leaderboard.md", "sweep.png", "multirun.yaml", JOURNAL)


class Leaderboard(HydraCallback):
    """Hydra callback that writes and prints the leaderboard.

    How the jobs become rows is read from Hydra's record of the command, so that `gptlab leaderboard` does the same.

    Args:
        average: keys whose values are averaged: jobs that differ only in them are one row.
        order: rank or given.
        compare: best or previous, see `gptlab leaderboard`.
        metric: the metric to rank by; None for the one that the jobs monitor.
        mode: min or max; None to know it by the metric.
    """

    def __init__(
        self,
        *,
        average: list[str],
        order: Literal["rank", "given"],
        compare: Literal["best", "previous"],
        metric: str | None,
        mode: Literal["min", "max"] | None,
    ) -> None:
        check_options({"average": average, "order": order, "compare": compare, "metric": metric, "mode": mode})
        self.made: list[Path] = []

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Put all jobs into one folder, which no other sweep uses.

        A job with its own `name` would otherwise be written elsewhere.

        Raises:
            SystemExit: 1 if the folder cannot be made; Hydra would swallow any other exception.
        """
        sweep = config.hydra.sweep
        self.made = missing_folders(Path(sweep.dir))
        try:
            folder = create_folder(Path(sweep.dir), dated=is_dated(references(sweep)["dir"]))
        except UserError as error:
            print(error, file=sys.stderr)
            sys.exit(1)
        with read_write(config):
            sweep.dir = str(folder)
            config.hydra.overrides.hydra.append(f"hydra.sweep.dir={quoted(folder)}")

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Update the files while the sweep runs."""
        from gptlab.sweeps.leaderboard.report import update_files

        if config.hydra.mode == RunMode.MULTIRUN:
            update_files(Path(config.hydra.sweep.dir))

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Print the table; a sweep all of whose jobs were refused leaves no folder.

        Raises:
            SystemExit: 1 if a job did not finish, see `is_success`; Hydra would swallow any other exception.
        """
        from rich import get_console

        from gptlab.sweeps.leaderboard.records import read_jobs
        from gptlab.sweeps.leaderboard.report import show_failures, show_leaderboard

        sweep = Path(config.hydra.sweep.dir)
        jobs = read_jobs(sweep)
        if jobs and all([path.name for path in job.folder.iterdir()] == [JOB_RECORD] for job in jobs):
            show_failures(jobs, get_console())
            discard_sweep(jobs, {sweep, *self.made})
        else:
            show_leaderboard(sweep, get_console())
        if not is_success(jobs, search=is_search(sweep)):
            sys.exit(1)


def is_success(jobs: Sequence[Job], *, search: bool) -> bool:
    """Return whether all jobs finished or were pruned.

    A search with a result may have trials whose values do not fit together or diverge: they are answers.
    """
    forgiven = search and any(job.complete for job in jobs)
    return all(job.complete or job.status == PRUNED or (forgiven and job.by_values) for job in jobs)


def discard_sweep(jobs: list[Job], folders: Iterable[Path]) -> None:
    """Delete what a sweep wrote, and those of the folders that are empty then."""
    for job in jobs:
        shutil.rmtree(job.folder)
    for folder in folders:
        for name in WRITTEN:
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder / LOCKS, ignore_errors=True)
    remove_empty(folders)
