"""Parallel coordinates: a line for each row of the leaderboard, an axis for each key."""

from collections.abc import Mapping, Sequence
from typing import Any

from gptlab.sweeps.leaderboard.picture.panels import BEST, PRUNED
from gptlab.sweeps.leaderboard.picture.points import Point, Range, Scale, literal, ticks_of
from gptlab.sweeps.leaderboard.shortening import shorten_column

COLOURS = "viridis"
DARKEST, LIGHTEST = 0.0, 0.88  # of the colours: yellow is hard to see on white
MAX_TICKS = 6  # of an axis
LABEL_CHARACTERS = 12
HEAD_CHARACTERS = 20
SHIFT = 0.05  # of the axis: lines through one value lie beside each other


def draw_parallel(axes: Any, scales: Mapping[str, Scale], points: Sequence[Point], span: Range, metric: str) -> None:
    """Draw each row as a line through its values, coloured by the metric; the last axis is the metric."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    shades = colormaps[COLOURS]
    ramp = [shades(DARKEST + (LIGHTEST - DARKEST) * step / 20) for step in range(21)]
    colours = LinearSegmentedColormap.from_list("score", ramp if span.sign == 1 else ramp[::-1])
    rows = [(point, point.score) for point in points if point.kind in ("mean", "pruned") and point.score is not None]
    shown = [score for point, score in rows if point.kind == "mean"] or [span.low, span.high]
    inside = [score for score in shown if not span.is_beyond(score)]
    norm = Normalize(min(inside), max(inside) if max(inside) > min(inside) else min(inside) + 1e-9, clip=True)
    _draw_axes(axes, scales, norm, metric)
    rows.sort(key=lambda row: (row[0].kind == "mean", -span.sign * row[1]))  # the best on top
    for index, (point, score) in enumerate(rows):
        shift = SHIFT * (index / max(len(rows) - 1, 1) - 0.5)
        heights = [_height(scale, point.varies.get(key), shift) for key, scale in scales.items()]
        heights.append(float(norm(score)))
        colour = colours(norm(score))
        if point.best:
            axes.plot(heights, color=BEST, linewidth=6, alpha=0.75, zorder=3, solid_joinstyle="round")
        style = {"color": PRUNED, "linestyle": ":", "linewidth": 1.1} if point.kind == "pruned" else {"color": colour}
        axes.plot(heights, zorder=4, **({"linewidth": 2.6 if point.best else 1.5, "alpha": 0.9} | style))
    bar = axes.figure.colorbar(ScalarMappable(norm, colours), ax=axes, pad=0.015, fraction=0.03, aspect=22)
    bar.set_label(f"{literal(metric)}, {'lower' if span.sign == 1 else 'higher'} is better", fontsize=9)
    bar.ax.tick_params(labelsize=8.5)


def _draw_axes(axes: Any, scales: Mapping[str, Scale], norm: Any, metric: str) -> None:
    """Draw an upright line for each key and the metric, with its values beside it."""
    n = len(scales)
    axes.set_xlim(-0.45, n + 0.35)
    axes.set_ylim(-0.06, 1.06)
    axes.set_xticks([], [])
    axes.set_yticks([], [])
    for spine in axes.spines.values():
        spine.set_visible(False)
    for index, (key, scale) in enumerate(scales.items()):
        places, labels = ticks_of(scale, n_most=MAX_TICKS)
        labels, last = shorten_column(labels, LABEL_CHARACTERS), -1.0
        for place, label in zip(places, labels, strict=True):
            height = scale.fraction(place)
            if scale.kind == "names" or height - last > 0.07:
                _write(axes, index, height, label)
                last = height
        _draw_axis(axes, index, key)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        _write(axes, n, share, f"{norm.vmin + share * (norm.vmax - norm.vmin):.4g}")
    _draw_axis(axes, n, metric)


def _draw_axis(axes: Any, index: int, head: str) -> None:
    axes.axvline(index, color="#9aa5ad", linewidth=1.1, zorder=1)
    (head,) = shorten_column([head], HEAD_CHARACTERS)
    axes.text(index, 1.1, literal(head), ha="center", va="bottom", fontsize=10)


def _write(axes: Any, index: int, height: float, label: str) -> None:
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8}
    axes.text(index - 0.03, height, label, ha="right", va="center", fontsize=8.5, zorder=6, bbox=box)


def _height(scale: Scale, value: Any, shift: float) -> float:
    """Return where a line crosses an axis; the lines through a name lie apart."""
    return scale.fraction(scale.place(value)) + shift
