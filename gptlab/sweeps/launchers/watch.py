"""Jobs side by side: started, watched, and stopped together."""

import re
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from time import perf_counter, sleep
from typing import Any, NamedTuple, Protocol

from hydra.types import HydraContext
from omegaconf import DictConfig
from rich import get_console
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from gptlab.config.hydra_internals import JobReturn, JobStatus, SweptJob, compose_job, describe_job
from gptlab.console import is_animated, print_text, printable, show_clock
from gptlab.errors import UserError
from gptlab.storage.run_folder import read_job_record, write_job_record
from gptlab.sweeps.jobs import is_unfinished, new_record, worst_value

POLL_SECONDS = 0.2
LOG_TAIL_BYTES = 2000
COLOURS = {"failed": "red", "interrupted": "yellow"}


class SweepJob(NamedTuple):
    """A job that is about to run."""

    described: SweptJob
    folder: Path
    config: DictConfig  # with Hydra's settings

    @property
    def number(self) -> int:
        """Return its number."""
        return self.described.number

    @property
    def overrides(self) -> list[str]:
        """Return its overrides, as Hydra records them."""
        return list(self.config.hydra.overrides.task)

    def done(self, value: float) -> JobReturn:
        """Return the job's objective as Hydra's launchers do."""
        result = JobReturn(overrides=self.overrides, cfg=self.config, hydra_cfg=self.config)
        result.return_value, result.status = value, JobStatus.COMPLETED
        return result


class Started(Protocol):
    """A job that runs elsewhere."""

    def poll(self) -> str | None:
        """Return None while it runs, then how it ended where it left no result."""

    def stop(self, number: int) -> None:
        """Pass on a signal, after which the job saves and stops."""

    def kill(self) -> None:
        """End it at once."""


class Running(NamedTuple):
    """A job that runs in a slot."""

    job: SweepJob
    started: Started
    slot: int
    since: float


def prepare_jobs(
    context: HydraContext, config: DictConfig, job_overrides: Sequence[Sequence[str]], first: int
) -> Iterator[SweepJob]:
    """Yield the jobs, composed as Hydra's basic launcher does."""
    for number, words in enumerate(job_overrides, first):
        described = describe_job(config, words, number)
        whole = compose_job(described, context.config_loader)
        yield SweepJob(described, Path(whole.hydra.sweep.dir) / str(whole.hydra.sweep.subdir), whole)


class Watch:
    """Runs jobs side by side, and says when each begins and ends.

    Args:
        start: starts a job in one of the slots.
        n_slots: jobs at a time.
        callbacks: Hydra's, called after each job: the leaderboard is one.
    """

    def __init__(self, start: Callable[[SweepJob, int], Started], *, n_slots: int, callbacks: Any) -> None:
        self.start, self.callbacks = start, callbacks
        self.free, self.running = list(range(n_slots)), list[Running]()
        self.results: dict[int, JobReturn] = {}
        self.stopping = False

    def run(self, jobs: Iterator[SweepJob]) -> list[JobReturn]:
        """Run all jobs, and return their objectives in order.

        Raises:
            KeyboardInterrupt, SystemExit: the sweep is stopped; its jobs have saved and stopped too.
        """
        console = get_console()
        with Live(self, console=console, transient=True) if is_animated(console) else nullcontext():
            try:
                self._run(jobs)
            except BaseException as error:
                self._stop(signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM)
                if isinstance(error, UserError):
                    print_text(str(error), Console(stderr=True), style="red")
                    raise SystemExit(1) from None  # Hydra would print a traceback
                raise
        return [self.results[number] for number in sorted(self.results)]

    def unfinished(self, jobs: Iterable[SweepJob]) -> Iterator[SweepJob]:
        """Yield the jobs that still have to run; the objectives of the others are kept.

        Raises:
            UserError: a job's folder holds another job, or is being trained.
        """
        for job in jobs:
            if is_unfinished(job.folder, job.number, job.overrides):
                yield job
            else:
                self.results[job.number] = job.done(read_job_record(job.folder)["value"])

    def _run(self, jobs: Iterator[SweepJob]) -> None:
        waiting = True
        while waiting or self.running:
            while waiting and self.free:
                job = next(jobs, None)
                if job is None:
                    waiting = False
                else:
                    slot = self.free.pop(0)
                    self.running.append(Running(job, self.start(job, slot), slot, perf_counter()))
                    print_text(f"{job.folder.name} started", get_console())
            self._collect()
            sleep(POLL_SECONDS)

    def _collect(self) -> None:
        """Record the jobs that have ended."""
        for each in list(self.running):
            ending = each.started.poll()
            if ending is None:
                continue
            self.running.remove(each)
            self.free.append(each.slot)
            record = self._settle(each.job, ending)
            value = record.get("value", worst_value(each.job.config.hydra))
            self.results[each.job.number] = each.job.done(value)
            self.callbacks.on_job_end(config=each.job.config, job_return=self.results[each.job.number])
            line = f"{each.job.folder.name} {describe_record(record)} ({show_clock(perf_counter() - each.since)})"
            print_text(line, get_console(), style=COLOURS.get(record["status"], ""))

    def _settle(self, job: SweepJob, ending: str) -> dict[str, Any]:
        """Return the job's record, completed where its process could not do it."""
        record = read_job_record(job.folder) or new_record(job.folder.parent, job.number, job.overrides)
        if record["status"] == "running" or (ending and "value" not in record and record["status"] == "finished"):
            crashed = ending.startswith("ended") and not self.stopping
            error = {} if self.stopping else {"error": ending or "ended without a result"}
            record |= {"status": "failed" if crashed else "interrupted", **error}
            job.folder.mkdir(parents=True, exist_ok=True)
            write_job_record(job.folder, record)
        return record

    def _stop(self, number: int) -> None:
        """Stop all jobs, and wait until they have saved; the second time they stop at once."""
        self.stopping = True
        for again in range(3):
            if not self.running:
                return
            for each in self.running:
                each.started.kill() if again == 2 else each.started.stop(number)
            if again == 0:
                print_text(
                    f"stopping {count_jobs(len(self.running))} after this step; again stops at once", get_console()
                )
            try:
                while self.running:
                    self._collect()
                    sleep(POLL_SECONDS)
            except (KeyboardInterrupt, SystemExit):
                continue

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield a line for each running job: the last one of its log."""
        width = max((len(each.job.folder.name) for each in self.running), default=0)
        for each in self.running:
            line = f"{each.job.folder.name:{width}}  {last_logged(each.job.folder)}"
            yield Text(line, no_wrap=True, overflow="ellipsis", style="dim")


def announce(first: int, n_jobs: int, how: str, config: DictConfig) -> None:
    """Print how many jobs there are, how they run, and where they log; a search launches many times."""
    if first == 0:
        print_text(f"{count_jobs(n_jobs)}, {how}; each has a train.log below {config.hydra.sweep.dir}", get_console())


def describe_record(record: dict[str, Any]) -> str:
    """Return how a job ended, with its value or its error."""
    if "value" in record:
        return f"{record['status']}: {record['monitor']} {record['value']:.4g} at its best"
    return f"{record['status']}: {record['error']}" if "error" in record else str(record["status"])


def count_jobs(n: int) -> str:
    """Return a number of jobs in words."""
    return f"{n:,} job{'s' * (n != 1)}"


def last_logged(folder: Path) -> str:
    """Return the last line of a job's log, without its time and level."""
    try:
        with (folder / "train.log").open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - LOG_TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return "starting"
    return printable(re.sub(r"^\S+ \S+ [A-Z]+ ", "", lines[-1])) if lines else "starting"
