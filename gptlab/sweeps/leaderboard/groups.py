"""Rows of the leaderboard: jobs that differ only in their seed are one."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from statistics import fmean
from typing import Any, NamedTuple

from gptlab.errors import UserError, nearest
from gptlab.evaluation.intervals import Interval
from gptlab.sweeps.leaderboard.records import PRUNED, RUNNING, Job, as_number, mode_of
from gptlab.sweeps.leaderboard.student import mean_interval
from gptlab.sweeps.leaderboard.sweep_record import Options

COSTS = (
    "best_step",
    "steps",
    "parameters",
    "tokens",
    "seconds",
    "tokens_per_second",
    "memory_gb",
    "total_seconds",
)


class Metric(NamedTuple):
    """What the rows are ranked by."""

    name: str
    mode: str  # min or max

    @property
    def sign(self) -> int:
        """Return 1 if lower is better, -1 otherwise."""
        return -1 if self.mode == "max" else 1

    def score(self, job: Job) -> float | None:
        """Return a job's value, of a running one the latest; None without one."""
        if job.status == RUNNING:
            return as_number(job.latest[1].get(self.name))
        found = job.metrics.get(self.name)
        return job.cost(self.name) if found is None else found


class Group:
    """Jobs that differ only in averaged keys.

    Args:
        varies: key -> value, without the averaged keys.
        seeds: the averaged keys that the jobs differ in.
    """

    def __init__(self, varies: Mapping[str, Any], jobs: Sequence[Job], metric: Metric, seeds: Sequence[str]) -> None:
        self.varies, self.jobs, self.metric = dict(varies), list(jobs), metric
        self.scores: dict[str, float] = {}  # seed -> value, of the complete jobs
        self.complete: list[Job] = []
        for job in self.jobs:
            score = metric.score(job)
            if job.complete and score is not None:
                seed = ", ".join(str(job.varies.get(key)) for key in seeds)
                self.scores[f"{seed} ({job.number})" if seed in self.scores else seed] = score  # trained twice
                self.complete.append(job)

    @property
    def n(self) -> int:
        """Return how many jobs the mean is of."""
        return len(self.scores)

    @cached_property
    def mean(self) -> float | None:
        """Return the mean of the complete jobs, None without one."""
        return fmean(self.scores.values()) if self.scores else None

    @cached_property
    def interval(self) -> Interval | None:
        """Return the 95 % interval of the mean, None for a single job."""
        return mean_interval([*self.scores.values()])

    @property
    def best(self) -> Job | None:
        """Return the best complete job."""
        ranked = sorted(self.complete, key=lambda job: (self.metric.sign * (self.metric.score(job) or 0.0), job.number))
        return ranked[0] if ranked else None

    @property
    def status(self) -> str:
        """Return the jobs' status, with counts if they differ."""
        statuses = [job.status for job in self.jobs]
        names = dict.fromkeys(statuses)
        if len(names) == 1:
            return statuses[0]
        return ", ".join(f"{statuses.count(name)} {name}" for name in names)

    def costs(self, name: str) -> list[float]:
        """Return a cost of each job that the mean is of, such as `tokens`; of all jobs with one if there is no mean."""
        values = (job.cost(name) for job in self.complete or self.jobs)
        return [value for value in values if value is not None]

    def partial(self) -> float | None:
        """Return the value of an incomplete group: of its pruned job, or the latest of its running one."""
        scores = [self.metric.score(job) for job in self.jobs if job.status in (RUNNING, PRUNED)]
        return next((score for score in scores if score is not None), None)


def choose_metric(jobs: Sequence[Job], options: Options) -> Metric:
    """Return what the jobs are ranked by.

    Raises:
        UserError: no job has the metric that was asked for.
    """
    monitored = [(job.monitor, job.mode) for job in jobs if job.monitor]
    common = max(dict.fromkeys(monitored), key=monitored.count, default=None)
    if options.metric is None:
        latest = [name for job in jobs for name in job.latest[1]]
        name, mode = common or (latest[0] if latest else "val/loss", None)
        return Metric(name, options.mode or mode or mode_of(name))
    known = dict.fromkeys(name for job in jobs for name in (*job.metrics, *job.latest[1]))
    known |= dict.fromkeys(name for name in COSTS if any(job.cost(name) is not None for job in jobs))
    name = options.metric if options.metric in known else f"val/{options.metric}"
    if name not in known:
        names = ", ".join(known) or "none"
        raise UserError(
            f"metric={options.metric}: no job has recorded it{nearest(options.metric, known)}; there are {names}"
        )
    mode = dict(monitored).get(name) or mode_of(name)
    return Metric(name, options.mode or mode)


def group_jobs(jobs: Sequence[Job], metric: Metric, options: Options) -> list[Group]:
    """Return the groups, the best first, or in the order of the jobs' numbers with `order=given`.

    Those without a mean come last.
    """
    seeds = [key for key in varied_keys(jobs) if key in options.average]
    members: dict[tuple[tuple[str, str], ...], list[Job]] = {}
    for job in jobs:
        key = tuple(sorted((name, repr(value)) for name, value in job.varies.items() if name not in seeds))
        members.setdefault(key, []).append(job)
    groups = [
        Group({name: value for name, value in each[0].varies.items() if name not in seeds}, each, metric, seeds)
        for each in members.values()
    ]
    if options.order == "given":
        return groups
    last = {PRUNED: 1, RUNNING: 2}  # then those that failed

    def rank(group: Group) -> tuple[bool, int, float, int]:
        missing = group.mean is None
        value = group.partial() if missing else group.mean
        place = min((last.get(job.status, 3) for job in group.jobs), default=0) if missing else 0
        return missing, place, metric.sign * (value or 0.0), group.jobs[0].number

    return sorted(groups, key=rank)


def varied_keys(jobs: Sequence[Job]) -> list[str]:
    """Return the keys that differ between the jobs, as their records say."""
    return list(dict.fromkeys(key for job in jobs for key in job.varies))
