"""A panel of the sweep's picture: the metric against one key."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from gptlab.sweeps.leaderboard.picture.points import Point, Range, Scale, ticks_of
from gptlab.sweeps.leaderboard.shortening import shorten_column

MEAN, SEED, LINE, BEST = "#24557a", "#7fa8c4", "#c3d2dd", "#e8a317"
PRUNED, RUNNING, FAILED = "#8c8c8c", "#3c9465", "#c23b3b"
MARKS: dict[str, dict[str, Any]] = {  # how each kind of point looks
    "mean": {"marker": "o", "markersize": 6.5, "color": MEAN, "zorder": 4},
    "seed": {"marker": "o", "markersize": 3.5, "color": SEED, "zorder": 3},
    "pruned": {"marker": "v", "markersize": 6, "color": PRUNED, "markerfacecolor": "none", "zorder": 2},
    "running": {"marker": "o", "markersize": 7, "color": RUNNING, "markerfacecolor": "none", "zorder": 3},
    "failed": {"marker": "x", "markersize": 7, "color": FAILED, "markeredgewidth": 1.8, "zorder": 3},
    "best": {"marker": "*", "markersize": 16, "color": BEST, "markeredgecolor": "#333333", "zorder": 5},
}
MAX_TICKS = 8
MAX_WIDTH = 0.07  # of the axis, of the strip above a number
N_LABEL_CHARACTERS = 48  # of all names below an axis, if they are to lie flat
MAX_LABEL_CHARACTERS = 18  # of one name
MIN_GAP = 0.085  # of the axis, between two numbers below it
WIDTH = 0.56  # of the strip above a name, 1 is up to the next


def draw_panel(axes: Any, key: str, scale: Scale, points: Sequence[Point], span: Range) -> None:
    """Draw the points over a key's values.

    Args:
        span: the metric's axis.
    """
    axes.set_ylim(span.low, span.high)
    _draw_ticks(axes, scale)
    places = _places(key, scale, points)
    if scale.kind != "names":
        _draw_line(axes, [scale.place(point.varies.get(key)) for point in points], places, points, span)
    for point, place in zip(points, places, strict=True):
        _draw_point(axes, point, place, span)
    axes.grid(axis="y", color="#e9e9e9", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _draw_point(axes: Any, point: Point, place: float, span: Range) -> None:
    """Draw a point by its kind; what has no value, or too bad a one, at the axis's bad edge."""
    mark = {"linestyle": "none", "clip_on": False, **MARKS["best" if point.best else point.kind]}
    if point.score is None:
        axes.plot([place], [span.bad_edge], **mark)
    elif span.is_beyond(point.score):
        mark |= {"marker": "^" if span.sign == 1 else "v"}
        axes.plot([place], [span.bad_edge], **mark)
        if point.kind != "seed":
            offset = {"xytext": (6, -3), "textcoords": "offset points"}
            axes.annotate(f"{point.score:.3g}", (place, span.bad_edge), fontsize=8, color=mark["color"], **offset)
    else:
        if point.interval is not None:
            axes.plot([place, place], [*point.interval], color=MEAN, linewidth=1.1, alpha=0.5, zorder=2)
        axes.plot([place], [point.score], **mark)


def _draw_line(
    axes: Any, values: Sequence[float], places: Sequence[float], points: Sequence[Point], span: Range
) -> None:
    """Connect the best row at each value of a number, unless nearly every row has a value of its own."""
    best: dict[float, tuple[float, float]] = {}  # value -> score and place
    rows = [index for index, point in enumerate(points) if point.kind == "mean"]
    for index in rows:
        score = span.sign * (points[index].score or 0.0)
        if not span.is_beyond(span.sign * score):
            best[values[index]] = min(best.get(values[index], (score, places[index])), (score, places[index]))
    if len(best) <= MAX_TICKS or len(points[0].varies) == 1:
        line = [best[value] for value in sorted(best)]
        axes.plot([place for _, place in line], [span.sign * score for score, _ in line], color=LINE, linewidth=1.8)


def _places(key: str, scale: Scale, points: Sequence[Point]) -> list[float]:
    """Return where each point lies: the rows of one value side by side, in a strip, with their seeds."""
    middles = [scale.place(point.varies.get(key)) for point in points]
    rows: dict[float, dict[str, int]] = {}  # value -> row -> its column
    for middle, point in zip(middles, points, strict=True):
        columns = rows.setdefault(middle, {})
        columns.setdefault(repr(point.varies), len(columns))
    fractions = sorted(scale.fraction(middle) for middle in rows)
    gap = min((after - before for before, after in pairwise(fractions)), default=1.0)
    width = gap * WIDTH if scale.kind == "names" else min(gap * WIDTH, MAX_WIDTH)
    if len(rows) == 1:
        width = WIDTH if scale.kind == "names" else 0.0

    def place(middle: float, point: Point) -> float:
        columns = rows[middle]
        if len(columns) == 1:
            return middle
        shift = width * (columns[repr(point.varies)] / (len(columns) - 1) - 0.5)
        return middle + shift if len(rows) == 1 else scale.at(scale.fraction(middle) + shift)

    return [place(middle, point) for middle, point in zip(middles, points, strict=True)]


def _draw_ticks(axes: Any, scale: Scale) -> None:
    """Write the values below the axis, numbers only where they do not touch."""
    from matplotlib.ticker import NullFormatter, NullLocator

    places, labels = ticks_of(scale, n_most=MAX_TICKS)
    if scale.kind == "names":
        axes.set_xlim(-0.6, len(scale.values) - 0.4)
        long = sum(map(len, labels)) > N_LABEL_CHARACTERS
        labels = shorten_column(labels, MAX_LABEL_CHARACTERS)
        turned = {"rotation": 25, "ha": "right", "rotation_mode": "anchor"} if long else {}
        axes.set_xticks(places, labels, fontsize=8.5, **turned)
        return
    if scale.kind == "log":
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks(places, labels, fontsize=8.5)
    last = -1.0
    for place, label in zip(places, axes.get_xticklabels(), strict=True):
        needed = MIN_GAP * max(1.0, len(label.get_text()) / 5)
        label.set_visible(scale.fraction(place) - last >= needed)
        last = scale.fraction(place) if label.get_visible() else last
    _pad(axes, scale)


def _pad(axes: Any, scale: Scale) -> None:
    """Leave room beside the first and the last value."""
    low, high = scale.values[0], scale.values[-1]
    if scale.kind == "log":
        factor = (high / low) ** 0.08
        axes.set_xlim(low / factor, high * factor)
    else:
        axes.set_xlim(low - 0.08 * (high - low), high + 0.08 * (high - low))
