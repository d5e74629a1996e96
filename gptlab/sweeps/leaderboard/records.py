"""Jobs of a sweep, read from their folders.

The jobs may run in other processes, now, and the folders may be a stranger's: what they hold is data.
"""

import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gptlab.errors import UserError
from gptlab.storage.curves import Curve, read_curves
from gptlab.storage.excerpts import excerpt
from gptlab.storage.run_folder import JOB_RECORD, is_locked, read_job_record, read_summary, trained_metrics

log = logging.getLogger(__name__)

RUNNING, PRUNED = "running", "pruned"
UNRANKED = (RUNNING, PRUNED, "failed", "interrupted", "unfinished", "training")  # a value of theirs is not a result
MAX_JOBS = 10_000  # of a folder
MAX_CHARACTERS = 2_000  # of a text in a record, such as an error
STARTUP_SECONDS = 120.0  # a job reads its data before it locks its folder
MAXIMISED = ("accuracy", "precision", "recall", "f1", "auroc", "margin", "chosen_reward", "tokens_per_second", "mfu")


@dataclass(frozen=True)
class Job:
    """One job of a sweep, or a run beside others."""

    folder: Path
    number: int
    status: str
    overrides: tuple[str, ...] = ()
    varies: Mapping[str, Any] = field(default_factory=dict)  # key -> value, of what differs between the jobs
    monitor: str = ""  # the head's own metric; empty without a result
    mode: str = ""  # min or max
    value: float | None = None  # the monitored metric's best value after a step
    error: str = ""
    by_values: bool = False  # it failed because its values do not fit together, or made it diverge
    summary: Mapping[str, Any] = field(default_factory=dict)
    latest: tuple[int, Mapping[str, float]] = (0, {})  # of a running job: the last validation's step and metrics

    @property
    def complete(self) -> bool:
        """Return whether the job has a result that counts."""
        return self.value is not None and self.status not in UNRANKED

    @property
    def metrics(self) -> dict[str, float]:
        """Return the finite metrics of the best validation after a step, the monitored one first."""
        try:
            found = trained_metrics(dict(self.summary)) if self.summary else {}
        except KeyError:
            found = {}
        numbers = {str(name): as_number(value) for name, value in found.items()} if isinstance(found, dict) else {}
        own = {self.monitor: self.value} if self.monitor and self.value is not None else {}
        return {name: value for name, value in (own | numbers | own).items() if value is not None}

    def cost(self, name: str) -> float | None:
        """Return a number of the summary, such as `seconds`, None if it is unknown."""
        return as_number(self.summary.get(name))


def read_jobs(sweep: Path) -> list[Job]:
    """Return all jobs that have started, by number.

    Records that cannot be read are logged and left out.
    """
    jobs, unreadable = [], []
    for path in _records_below(sweep):
        try:
            jobs.append(_job(path.parent, read_job_record(path.parent)))
        except (UserError, OSError, TypeError, ValueError, KeyError) as error:
            named = isinstance(error, UserError)  # its sentence names the file
            unreadable.append(str(error) if named else f"{path} ({excerpt(str(error))})")
    if unreadable:
        more = f" and {len(unreadable) - 1:,} more" if len(unreadable) > 1 else ""
        log.warning(f"left out a job whose record cannot be read: {unreadable[0]}{more}")
    jobs.sort(key=lambda job: (job.number, str(job.folder)))
    return with_latest(jobs)


def with_latest(jobs: list[Job]) -> list[Job]:
    """Return the jobs; the running ones with their last validation."""
    return [replace(job, latest=_latest(job.folder)) if job.status == RUNNING else job for job in jobs]


def mode_of(metric: str) -> str:
    """Return whether a metric is better when it is lower, `min`, or higher, `max`, by its name."""
    return "max" if metric.rpartition("/")[2].removeprefix("balanced_") in MAXIMISED else "min"


def as_number(value: Any) -> float | None:
    """Return a finite number as a float, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # an int of hundreds of digits
        return None
    return number if math.isfinite(number) else None


def is_running(folder: Path) -> bool:
    """Return whether a process trains in the folder, or has just begun."""
    lock, files = folder / ".lock", [folder / JOB_RECORD]
    with suppress(OSError):
        if lock.is_file() and is_locked(folder):
            return True
        if not lock.is_file():
            files.append(folder / "train.log")  # reading much data may take long
        newest = max((path.stat().st_mtime for path in files if path.is_file()), default=0.0)
        return time.time() - newest < STARTUP_SECONDS
    return False


def _records_below(sweep: Path) -> Iterator[Path]:
    for n, path in enumerate(sweep.rglob(JOB_RECORD)):
        if n == MAX_JOBS:
            log.warning(f"{sweep} holds more than {MAX_JOBS:,} jobs: the others are left out")
            return
        yield path


def _job(folder: Path, record: Any) -> Job:
    """Return a job by its record, whose values may be anything.

    Raises:
        KeyError: it lacks an entry.
        TypeError: an entry is of another type.
    """
    if type(record["job"]) is not int or not isinstance(record["varies"], dict):
        raise TypeError("not the record of a job")
    value, status = as_number(record.get("value")), _text(record["status"])
    if status == RUNNING and not is_running(folder):
        status = "interrupted"  # its process was killed
    has_result = value is not None and status != RUNNING
    return Job(
        folder,
        record["job"],
        status,
        overrides=tuple(_text(word) for word in _items(record["overrides"])),
        varies={_text(key): _plain(item) for key, item in record["varies"].items()},
        monitor=_text(record.get("monitor", "")) if has_result else "",
        mode="max" if record.get("mode") == "max" else "min",
        value=value if has_result else None,
        error=_text(record.get("error", "")),
        by_values=record.get("by_values") is True,
        summary=read_summary(folder) if has_result else {},
    )


def _items(value: Any) -> Iterable[Any]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    return value


def _text(value: Any) -> str:
    return str(value)[:MAX_CHARACTERS]


def _plain(value: Any) -> Any:
    """Return a number or truth value as it is, a number that is written as text as a number, and others as text."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, str):
        for kind in (int, float):
            with suppress(ValueError):
                return kind(value) if as_number(kind(value)) is not None else value
        return _text(value)
    return value if as_number(value) is not None else _text(value)


def _latest(folder: Path) -> tuple[int, dict[str, float]]:
    """Return the last validation's step and metrics of a run in training."""
    try:
        curves = read_curves(folder)
    except (UserError, OSError):
        return 0, {}
    ends = {name: _end(curve) for name, curve in curves.items() if name.startswith("val/") and curve.steps}
    step = max([step for step, _ in ends.values()] + [curve.steps[-1] for curve in curves.values() if curve.steps])
    return step, {name: value for name, (_, value) in ends.items() if math.isfinite(value)}


def _end(curve: Curve) -> tuple[int, float]:
    return curve.steps[-1], curve.values[-1]
