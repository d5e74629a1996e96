"""All that a leaderboard says, as values."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gptlab.sweeps.leaderboard import next_steps
from gptlab.sweeps.leaderboard.groups import COSTS, Group, Metric, choose_metric, group_jobs
from gptlab.sweeps.leaderboard.records import PRUNED, RUNNING, Job
from gptlab.sweeps.leaderboard.student import Contrast
from gptlab.sweeps.leaderboard.sweep_record import Options
from gptlab.sweeps.leaderboard.table import Column, columns_of, common_values
from gptlab.sweeps.leaderboard.verdict import budget_notes, compare_with_best, compare_with_previous, verdict


@dataclass(frozen=True)
class Board:
    """The answer of a sweep.

    Args:
        jobs: of the sweep, by number.
        folder: of the sweep, as a command names it; empty for runs from several folders.
        options: how the jobs become rows.
    """

    jobs: Sequence[Job]
    folder: str
    options: Options

    @cached_property
    def metric(self) -> Metric:
        """Return what the rows are ranked by."""
        return choose_metric(self.jobs, self.options)

    @cached_property
    def groups(self) -> list[Group]:
        """Return the rows; if seeds are all that differs, a row for each."""
        groups = group_jobs(self.jobs, self.metric, self.options)
        if len(groups) > 1 or len(self.jobs) < 2:
            return groups
        alone = Options([], self.options.order, self.options.compare, self.options.metric, self.options.mode)
        return group_jobs(self.jobs, self.metric, alone)

    @cached_property
    def title(self) -> str:
        """Return the number of jobs, and how they are ranked."""
        count = f"{len(self.jobs)} job{'s' * (len(self.jobs) != 1)}"
        rows = f" in {len(self.groups)} rows" if len(self.groups) < len(self.jobs) else ""
        if self.options.order == "given":
            return f"{count}{rows}: {self.metric.name}, in the order given"
        return f"{count}{rows}: the best {self.metric.name} first"

    @cached_property
    def contrasts(self) -> dict[int, Contrast]:
        """Return each row's difference to the best one, or to the one above."""
        previous = self.options.compare == "previous"
        return (compare_with_previous if previous else compare_with_best)(self.groups)

    @cached_property
    def all_columns(self) -> list[Column]:
        """Return the columns, those that are equal in every row among them."""
        own = {str(name).rpartition("/")[2] for job in self.jobs for name in _entries(job, "train")}
        measured = dict.fromkeys(name for job in self.jobs for name in job.metrics)
        others = [name for name in measured if name != self.metric.name and (not own or name.rpartition("/")[2] in own)]
        previous = self.options.compare == "previous"
        return columns_of(
            self.groups, self.metric, others, self.contrasts if previous else {}, memory=self.options.order == "given"
        )

    @cached_property
    def columns(self) -> list[Column]:
        """Return the columns that differ between the rows."""
        return common_values(self.all_columns)[0]

    @cached_property
    def common(self) -> str:
        """Return a sentence about the columns that are equal in every row."""
        return common_values(self.all_columns)[1]

    @cached_property
    def sentences(self) -> list[str]:
        """Return what the rows show, and what makes them unequal."""
        lines = self._ladder() if self.options.compare == "previous" else verdict(self.judged, self.metric)
        lines += budget_notes(self.groups, self.metric)
        in_parentheses = {job.status for group in self.groups if group.mean is None for job in group.jobs}
        if RUNNING in in_parentheses and any(job.latest[1] for job in self.jobs):
            lines.append("In parentheses: the latest validation of a job that is running")
        if PRUNED in in_parentheses:
            lines.append("In parentheses: the best of a pruned job, which does not count")
        missing = [job for job in self.jobs if job.complete and self.metric.score(job) is None]
        if missing:
            lines.append(
                f"Without {self.metric.name}, so not ranked: job {', '.join(str(job.number) for job in missing)}"
            )
        return [*lines, *self._worse_than_start()]

    @property
    def judged(self) -> list[Group]:
        """Return the rows with all seeds together."""
        return group_jobs(self.jobs, self.metric, self.options)

    @cached_property
    def failures(self) -> list[str]:
        """Return each error with its jobs' numbers."""
        numbers: dict[str, list[str]] = {}
        for job in self.jobs:
            if job.error:
                numbers.setdefault("; ".join(job.error.splitlines()), []).append(str(job.number))
        return [f"job{'s' * (len(failed) > 1)} {', '.join(failed)}: {error}" for error, failed in numbers.items()]

    @property
    def best(self) -> Job | None:
        """Return the best job of the best row."""
        means = [group for group in self.groups if group.mean is not None]
        best = min(means, key=lambda group: self.metric.sign * (group.mean or 0.0), default=None)
        return None if best is None else best.best

    @cached_property
    def commands(self) -> list[tuple[str, list[str]]]:
        """Return titles, and the commands to type next."""
        found = []
        ranked = [group for group in self.judged if group.mean is not None]
        unknown = len(ranked) > 1 and self.options.compare == "best" and min(ranked[0].n, ranked[1].n) < 2
        if unknown and ranked[0].jobs[0].overrides:
            lines = next_steps.seeds_commands(ranked[0], ranked[1], self.options.average)
            found.append(("To know it, train the two with three seeds", lines))
        if self.best is None:
            return found
        if self.best.overrides:
            found.append((f"The best job, {self.best.number}, alone", [next_steps.single_command(self.best)]))
        return found

    def as_json(self) -> dict[str, Any]:
        """Return the answer as plain values."""
        best = self.best
        return {
            "metric": self.metric.name,
            "mode": self.metric.mode,
            "rows": [_row(group, self.contrasts.get(index)) for index, group in enumerate(self.groups)],
            "sentences": self.sentences,
            "failures": self.failures,
            "best": None if best is None else best.number,
            "checkpoint": None if best is None else next_steps.checkpoint_of(best),
            "commands": dict(self.commands),
            "next": None if best is None else next_steps.next_command(best),
        }

    def _ladder(self) -> list[str]:
        """Return how to read the differences to the row above."""
        known = [found for found in self.contrasts.values() if found.interval is not None]
        if not known:
            return ["With one seed for each row a difference may be chance: add seed=1,2,3"] * bool(self.contrasts)
        sign, kinds = ("better", "worse")[self.metric.sign != 1], dict.fromkeys(found.kind for found in known)
        return [
            f"To the row above: the difference of the means, negative if {sign}, with its 95 % interval "
            f"({' and '.join(kinds)}); of 20 such intervals around no difference, one leaves out 0 by chance"
        ]

    def _worse_than_start(self) -> list[str]:
        """Return a sentence about the jobs that did not improve the weights they started from."""
        numbers: dict[tuple[str, float], list[str]] = {}
        for job in self.jobs:
            start = _entries(job, "start").get(job.monitor)
            if job.summary.get("best_step") == 0 and isinstance(start, float):
                numbers.setdefault((str(job.summary.get("started_from")), start), []).append(str(job.number))
        return [
            f"job{'s' * (len(worse) > 1)} {', '.join(worse)}: no better than the weights at the start, {weights}, "
            f"with {value:.4g}"
            for (weights, value), worse in numbers.items()
        ]


def _entries(job: Job, name: str) -> dict[str, Any]:
    found = job.summary.get(name)
    return found if isinstance(found, dict) else {}


def _row(group: Group, found: Contrast | None) -> dict[str, Any]:
    """Return a row as plain values."""
    low, high = group.interval or (None, None)
    ends = (found.interval if found else None) or (None, None)
    difference = {"value": found.value, "low": ends[0], "high": ends[1], "kind": found.kind} if found else None
    return {
        "varies": group.varies,
        "jobs": [
            {"job": job.number, "status": job.status, "value": group.metric.score(job), "folder": str(job.folder)}
            for job in group.jobs
        ],
        "mean": group.mean,
        "low": low,
        "high": high,
        "n": group.n,
        "difference": difference,
        **{name: group.costs(name) for name in COSTS},
    }
