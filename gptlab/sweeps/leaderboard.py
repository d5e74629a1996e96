"""A table of a sweep's jobs.

It is read from the jobs' folders, because jobs may run in other processes.
"""

import csv
import io
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hydra.types import RunMode
from omegaconf import DictConfig, read_write

from gptlab.config.command import is_dated
from gptlab.config.hydra_internals import HydraCallback, JobReturn
from gptlab.config.plain import references
from gptlab.config.run_paths import quoted
from gptlab.errors import UserError
from gptlab.storage.atomic import atomic_write
from gptlab.storage.run_folder import (
    JOB_RECORD,
    create_folder,
    missing_folders,
    read_job_record,
    read_summary,
    remove_empty,
    trained_metrics,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

COSTS = ("best_step", "steps", "parameters", "tokens", "seconds", "tokens_per_second", "total_seconds")


class Job(NamedTuple):
    """One job of a sweep."""

    folder: Path
    record: dict[str, Any]  # number, status, overrides, `varies`; a `value` if it finished, or an `error`
    summary: dict[str, Any]  # summary.json; empty without a value

    @property
    def metrics(self) -> dict[str, float]:
        """Return the metrics of the best validation after a step, the monitored one first."""
        metrics = trained_metrics(self.summary) if self.summary else {}
        names = sorted(metrics, key=lambda name: name != self.record["monitor"])
        return {name: metrics[name] for name in names if metrics[name] is not None}  # None was not finite


class Leaderboard(HydraCallback):
    """Hydra callback that writes and prints the leaderboard."""

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
        """Update the file while the sweep runs."""
        if config.hydra.mode == RunMode.MULTIRUN:
            write_leaderboard(Path(config.hydra.sweep.dir))

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Print the table; a sweep all of whose jobs were refused leaves no folder.

        Raises:
            SystemExit: 1 if a job did not finish; Hydra would swallow any other exception.
        """
        from rich import get_console

        sweep = Path(config.hydra.sweep.dir)
        jobs = read_jobs(sweep)
        if jobs and all([path.name for path in job.folder.iterdir()] == [JOB_RECORD] for job in jobs):
            show_failures(jobs, get_console())
            discard_sweep(jobs, {sweep, *self.made})
        else:
            show_leaderboard(jobs, sweep, get_console())
        if any(not job.summary for job in jobs):
            sys.exit(1)


def read_jobs(sweep: Path) -> list[Job]:
    """Return all jobs that have started, ranked."""
    jobs = []
    for path in sweep.rglob(JOB_RECORD):
        record = read_job_record(path.parent)
        summary = read_summary(path.parent) if "value" in record else {}
        jobs.append(Job(path.parent, record, summary))
    return rank_jobs(jobs)


def rank_jobs(jobs: list[Job]) -> list[Job]:
    """Return the jobs, the best first.

    Those without a value come last, in the order of their numbers.
    """

    def sort_key(job: Job) -> tuple[bool, float, int]:
        sign = -1 if job.record.get("mode") == "max" else 1
        return "value" not in job.record, sign * job.record.get("value", 0.0), job.record["job"]

    return sorted(jobs, key=sort_key)


def write_leaderboard(sweep: Path) -> None:
    """Write `leaderboard.csv`, a row for each job."""
    jobs = read_jobs(sweep)
    rows = [
        {"rank": rank if job.summary else "", "job": job.record["job"], "status": job.record["status"]}
        | job.record["varies"]
        | job.metrics
        | {name: job.summary.get(name) for name in COSTS}
        | {"folder": str(job.folder), "error": job.record.get("error")}
        for rank, job in enumerate(jobs, 1)
    ]
    columns = ["rank", "job", "status", *_varied(jobs), *_measured(jobs), *COSTS, "folder", "error"]
    text = io.StringIO()
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    atomic_write(sweep / "leaderboard.csv", text.getvalue())


def discard_sweep(jobs: list[Job], folders: Iterable[Path]) -> None:
    """Delete what a sweep wrote, and those of the folders that are empty then."""
    for job in jobs:
        shutil.rmtree(job.folder)
    for folder in folders:
        for name in ("leaderboard.csv", "multirun.yaml"):
            (folder / name).unlink(missing_ok=True)
    remove_empty(folders)


def show_leaderboard(jobs: list[Job], sweep: Path, console: "Console") -> None:
    """Print the table, errors and next commands."""
    from gptlab.console import print_text

    console.print(_table(jobs), highlight=False)
    show_failures(jobs, console)
    best, folder = jobs[0], shlex.quote(str(sweep))
    lines = [f"\nAll metrics of all jobs: {sweep / 'leaderboard.csv'}"]
    if any(not job.summary for job in jobs):
        lines.append(f"To run the unfinished jobs, repeat the command with hydra.sweep.dir={folder}")
    lines += _worse_than_start(jobs)
    better = best.summary.get("best_step") == 0
    lines.append("\nNext, with the weights that the jobs started from" if better else "\nNext")
    if best.summary:
        lines.append(f"  {best.summary['next_command']}")
    if any(job.summary.get("tensorboard", True) for job in jobs):  # unknown of a job that failed
        lines.append(f"  tensorboard --logdir {folder}")
    print_text("\n".join(lines), console)


def show_failures(jobs: list[Job], console: "Console") -> None:
    """Print each error with the jobs that failed for it."""
    from gptlab.console import print_text

    for sentence in _failures(jobs):
        print_text(sentence, console, style="red")


def _table(jobs: list[Job]) -> "Table":
    """Return the table that is printed.

    It has the head's own metrics; the file has all metrics.
    """
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    varied = _varied(jobs)
    own = {name.rpartition("/")[2] for job in jobs if job.summary for name in job.summary["train"]}
    measured = [name for name in _measured(jobs) if not own or name.rpartition("/")[2] in own]  # the head's own
    monitor = f": the best {measured[0]} first" if measured else ""
    table = Table(title=f"{len(jobs)} jobs{monitor}", title_justify="left", box=SIMPLE_HEAD, padding=0, pad_edge=False)
    short = [key.rpartition(".")[2] for key in varied]
    heads = [key if short.count(last) > 1 else last for key, last in zip(varied, short, strict=True)]
    names = [name.rpartition("/")[2].replace("_", "\n") for name in measured]  # one word per line, to fit 80 columns
    for head in ("", "job", *heads, *names, "steps", "tok/s", "time", "status"):
        table.add_column(head, justify="left" if head == "status" else "right", overflow="fold")
    for rank, job in enumerate(jobs, 1):
        costs = [""] * 3
        if job.summary:
            time = str(timedelta(seconds=round(job.summary["total_seconds"]))).removeprefix("0:")
            costs = [f"{job.summary['steps']:,}", f"{job.summary['tokens_per_second']:,.0f}", time]
        table.add_row(
            str(rank) if job.summary else "",
            str(job.record["job"]),
            *(escape(job.record["varies"].get(key, "")) for key in varied),  # the brackets of a list are not markup
            *(f"{job.metrics[name]:.4g}" if name in job.metrics else "" for name in measured),
            *costs,
            job.record["status"],
            style=_colour(job, rank, n_jobs=len(jobs)),
        )
    return table


def _colour(job: Job, rank: int, *, n_jobs: int) -> str:
    """Return the colour of a row, by its rank and status."""
    if job.summary:
        return "green" if rank == 1 < n_jobs else ""
    return "red" if job.record["status"] == "failed" else "yellow"


def _failures(jobs: list[Job]) -> Iterator[str]:
    """Yield each error with its jobs' numbers."""
    numbers: dict[str, list[str]] = {}
    for job in jobs:
        if "error" in job.record:
            numbers.setdefault("; ".join(job.record["error"].splitlines()), []).append(str(job.record["job"]))
    for error, failed in numbers.items():
        yield f"job{'s' * (len(failed) > 1)} {', '.join(failed)}: {error}"


def _worse_than_start(jobs: list[Job]) -> Iterator[str]:
    """Yield a sentence about the jobs that did not improve the weights they started from."""
    numbers: dict[tuple[str, float], list[str]] = {}
    for job in sorted(jobs, key=lambda job: job.record["job"]):
        if job.summary.get("best_step") == 0:
            monitor = job.record["monitor"]
            start = job.summary["started_from"], job.summary["start"][monitor]
            numbers.setdefault(start, []).append(str(job.record["job"]))
    for (weights, value), worse in numbers.items():
        yield (
            f"job{'s' * (len(worse) > 1)} {', '.join(worse)}: no better than the weights at the start, {weights}, "
            f"with {value:.4g}"
        )


def _varied(jobs: list[Job]) -> list[str]:
    """Return the keys that differ between the jobs."""
    return list(dict.fromkeys(key for job in jobs for key in job.record["varies"]))


def _measured(jobs: list[Job]) -> list[str]:
    """Return the names of all jobs' metrics."""
    return list(dict.fromkeys(name for job in jobs for name in job.metrics))
