"""What the picture of a sweep shows: points, and the scale of each key."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from gptlab.evaluation.intervals import Interval
from gptlab.sweeps.leaderboard.board import Board
from gptlab.sweeps.leaderboard.records import PRUNED, RUNNING
from gptlab.sweeps.leaderboard.shortening import show_values

LOG_FACTOR = 10.0  # between the ends of a key: from here its axis is logarithmic
OUTLIER_SPREADS = 8.0  # median absolute deviations from the median: a point beyond them is drawn at the edge
MAX_INTERVALS = 20  # rows; those of more would hide the points
MAX_PANELS = 12  # keys
MIN_SPREAD = 0.05  # of the median: that far values always differ
Kind = Literal["mean", "seed", "pruned", "running", "failed"]


def drawn_keys(board: Board) -> tuple[list[str], list[str]]:
    """Return the varied keys that the picture shows, and those for which it has no room."""
    keys = list(dict.fromkeys(key for group in board.groups for key in group.varies))
    return keys[:MAX_PANELS], keys[MAX_PANELS:]


class Point(NamedTuple):
    """A row or job of the picture."""

    varies: Mapping[str, Any]
    score: float | None
    kind: Kind
    interval: Interval | None = None
    best: bool = False


class Scale(NamedTuple):
    """How a key's values lie on an axis."""

    kind: Literal["log", "linear", "names"]
    values: list[Any]  # distinct, in order

    def place(self, value: Any) -> float:
        """Return where a value lies: itself, or the number of its name."""
        return float(self.values.index(value)) if self.kind == "names" else float(value)

    def fraction(self, place: float) -> float:
        """Return a place as a fraction of the axis, 0 at the first value and 1 at the last."""
        low, high = self.place(self.values[0]), self.place(self.values[-1])
        if low == high:
            return 0.5
        return math.log(place / low) / math.log(high / low) if self.kind == "log" else (place - low) / (high - low)

    def at(self, fraction: float) -> float:
        """Return the place of a fraction of the axis."""
        low, high = self.place(self.values[0]), self.place(self.values[-1])
        return float(low * (high / low) ** fraction) if self.kind == "log" else low + fraction * (high - low)


def points_of(board: Board) -> list[Point]:
    """Return rows as means with their seeds, and the jobs without a result that counts."""
    ranked = [group for group in board.groups if group.mean is not None]
    points, best = [], next((group for group in board.groups if group.best is board.best), None)
    for group in board.groups:
        if group.mean is not None:
            interval = group.interval if len(ranked) <= MAX_INTERVALS else None
            points.append(Point(group.varies, group.mean, "mean", interval, best=group is best is not None))
        if group.n > 1:
            points += [Point(group.varies, score, "seed") for score in group.scores.values()]
        kinds: dict[str, Kind] = {RUNNING: "running", PRUNED: "pruned"}
        points += [
            Point(group.varies, board.metric.score(job), kinds.get(job.status, "failed"))
            for job in group.jobs
            if not job.complete and not (job.status == RUNNING and board.metric.score(job) is None)
        ]
    return points


def scale_of(key: str, board: Board) -> Scale:
    """Return the scale of a key: logarithmic over a factor of 10, names for what is no number."""
    values = distinct([group.varies.get(key) for group in board.groups])
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        values.sort()
        low, high = values[0], values[-1]
        if key not in board.options.average and len(values) > 1:
            if low > 0:
                return Scale("log" if high >= LOG_FACTOR * low * 0.999 else "linear", values)
            positive = [value for value in values if value > 0]
            if not (low == 0 and positive and high >= LOG_FACTOR * positive[0]):  # 0 has no place on a log axis
                return Scale("linear", values)
    return Scale("names", values)


def distinct(values: Sequence[Any]) -> list[Any]:
    """Return the values without repetition; True is not 1."""
    return list({(type(value) is bool, value): value for value in values}.values())


class Range(NamedTuple):
    """The axis of the metric."""

    low: float
    high: float
    fence: float  # a point beyond it is drawn at the axis's bad edge
    sign: int  # 1 if lower is better, -1 otherwise

    def is_beyond(self, score: float) -> bool:
        """Return whether a score is too bad to be shown at its place."""
        return self.sign * score > self.sign * self.fence

    @property
    def bad_edge(self) -> float:
        """Return where points without a place are drawn."""
        pad = 0.04 * (self.high - self.low)
        return self.high - pad if self.sign == 1 else self.low + pad


def range_of(points: Sequence[Point], *, sign: int) -> Range:
    """Return the axis that shows all points but those that would squash the rest.

    Args:
        sign: 1 if lower is better, -1 otherwise.
    """
    scores = [point.score for point in points if point.score is not None]
    typical = [point.score for point in points if point.score is not None and point.kind == "mean"] or scores
    if not typical:
        return Range(0.0, 1.0, sign * 1.0, sign)
    middle = statistics.median_low([sign * score for score in typical])
    spread = statistics.median_low([abs(sign * score - middle) for score in typical])
    found = Range(0.0, 0.0, sign * (middle + OUTLIER_SPREADS * max(spread, MIN_SPREAD * abs(middle))), sign)
    shown = [score for score in scores if not found.is_beyond(score)]
    low, high = min(shown), max(shown)
    pad = 0.08 * (high - low) or 0.02 * abs(high) or 1.0
    marks = len(shown) < len(scores) or any(point.score is None for point in points)
    bad = pad * (3 if marks else 1)
    return found._replace(low=low - (pad if sign == 1 else bad), high=high + (bad if sign == 1 else pad))


def ticks_of(scale: Scale, *, n_most: int) -> tuple[list[float], list[str]]:
    """Return the places of a scale's marks, and their labels: its values, or round numbers if there are too many."""
    values = scale.values
    if scale.kind == "names":
        values = values[:: max(1, -(-len(values) // n_most))]
    elif len(values) > n_most:
        values = _round_numbers(scale, n_most)
    return [scale.place(value) for value in values], [literal(text) for text in show_values(values)]


def literal(text: str) -> str:
    """Return a text that matplotlib draws as it is: a dollar begins no formula."""
    return text.replace("$", r"\$")


def _round_numbers(scale: Scale, n_most: int) -> list[float]:
    """Return round numbers between the first and the last value."""
    from matplotlib.ticker import MaxNLocator

    low, high = scale.values[0], scale.values[-1]
    if scale.kind == "linear":
        ticks = [float(tick) for tick in MaxNLocator(n_most).tick_values(low, high)]
        return [tick for tick in ticks if low <= tick <= high]
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        ticks = [float(f"{digit}e{decade}") for decade in decades for digit in digits]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= n_most:
            break
    return ticks[:: max(1, -(-len(ticks) // n_most))]
