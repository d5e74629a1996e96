"""`sweep.png`: the metric against each swept key, and all keys at once."""

import io
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptlab.storage.atomic import atomic_replace
from gptlab.sweeps.leaderboard.board import Board
from gptlab.sweeps.leaderboard.picture.event import write_event
from gptlab.sweeps.leaderboard.picture.panels import MARKS, draw_panel
from gptlab.sweeps.leaderboard.picture.parallel import draw_parallel
from gptlab.sweeps.leaderboard.picture.points import Point, Range, drawn_keys, literal, points_of, range_of, scale_of
from gptlab.sweeps.leaderboard.shortening import short_keys, shorten, show_value

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURE_FILE = "sweep.png"
N_COLUMNS = 3  # of panels; one on the card of TensorBoard, which is narrow
PARALLEL_FROM = 4  # keys
PANEL_SIZE, PARALLEL_HEIGHT = (4.3, 3.2), 4.0  # inches
HEAD_HEIGHT, LEGEND_HEIGHT = 0.75, 0.45  # inches
LEGEND_WIDTH = 1.9  # inches of an entry
DPI = 100
TITLE_CHARACTERS, TITLE_PER_INCH = 90, 12
LABELS = {
    "best": "best row",
    "mean": "row: mean of its seeds",
    "seed": "seed",
    "pruned": "pruned",
    "running": "running, latest validation",
    "failed": "failed or interrupted",
}


def save_picture(board: Board, folder: Path) -> None:
    """Write the picture as a file, and as TensorBoard's image of the sweep; nothing without a varied key."""
    figure, card = draw_sweep(board), draw_sweep(board, most_columns=1)
    if figure is None or card is None:
        return
    with atomic_replace(folder / PICTURE_FILE) as temporary:
        temporary.write_bytes(_png(figure))
    width, height = (round(size * DPI) for size in card.get_size_inches())
    write_event(folder, _png(card), width=width, height=height)


def _png(figure: "Figure") -> bytes:
    data = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # a sign that the font does not have is drawn as a box
        figure.savefig(data, format="png", dpi=DPI)
    return data.getvalue()


def draw_sweep(board: Board, *, most_columns: int = N_COLUMNS) -> "Figure | None":
    """Return the picture, None if no key varies or no job has a value.

    Args:
        most_columns: panels side by side.
    """
    from matplotlib.figure import Figure

    keys, left_out = drawn_keys(board)
    points = points_of(board)
    if not keys or all(point.score is None for point in points):
        return None
    span = range_of(points, sign=board.metric.sign)
    n_columns = min(most_columns, len(keys)) if len(keys) != PARALLEL_FROM else min(most_columns, 2)
    n_rows, parallel = -(-len(keys) // n_columns), len(keys) >= PARALLEL_FROM
    width = PANEL_SIZE[0] * n_columns
    heights = [HEAD_HEIGHT, n_rows * PANEL_SIZE[1], PARALLEL_HEIGHT * parallel, LEGEND_HEIGHT]
    figure = Figure(figsize=(width, sum(heights)), layout="constrained")
    parts = figure.subfigures(2 if parallel else 1, 1, height_ratios=heights[1 : 3 if parallel else 2], squeeze=False)
    heads = dict(zip(keys, short_keys(keys), strict=True))
    scales = {key: scale_of(key, board) for key in keys}
    panels = parts[0, 0].subplots(n_rows, n_columns, squeeze=False, sharey=True).flatten()
    for key, axes in zip(keys, panels, strict=False):
        draw_panel(axes, key, scales[key], points, span)
        axes.set_title(literal(shorten(heads[key], 32)), fontsize=10.5, loc="left")
    for axes in panels[len(keys) :]:
        axes.remove()
    for axes in parts[0, 0].axes[::n_columns]:
        axes.set_ylabel(literal(board.metric.name), fontsize=9.5)
    if parallel:
        axes = parts[1, 0].subplots()
        named = {heads[key]: scale for key, scale in scales.items()}
        draw_parallel(axes, named, [_renamed(point, heads) for point in points], span, board.metric.name)
    missing = f"not drawn: {shorten(', '.join(left_out), TITLE_CHARACTERS)}" if left_out else ""
    lines = [textwrap.fill(text, round(width * TITLE_PER_INCH)) for text in (_title(board), missing) if text]
    figure.suptitle(literal("\n".join(lines)), fontsize=11.5, x=0.01, ha="left")
    _draw_legend(figure, points, span)
    return figure


def _renamed(point: Point, heads: dict[str, str]) -> Point:
    return point._replace(varies={head: point.varies.get(key) for key, head in heads.items()})


def _title(board: Board) -> str:
    best = next((group for group in board.groups if group.best is board.best and group.mean is not None), None)
    if best is None:
        return board.title
    values = zip(short_keys([*best.varies]), best.varies.values(), strict=True)
    chosen = ", ".join(f"{head}\u00a0{shorten(show_value(value), 24)}" for head, value in values)
    title = f"{len(board.jobs)} jobs; best {board.metric.name} {best.mean:.4g}: {chosen}"
    return shorten(title, TITLE_CHARACTERS) if len(title) > 2 * TITLE_CHARACTERS else title


def _draw_legend(figure: "Figure", points: Sequence[Point], span: Range) -> None:
    from matplotlib.lines import Line2D

    kinds: dict[str, Any] = dict.fromkeys(("best",) if any(point.best for point in points) else ())
    kinds |= dict.fromkeys(kind for kind in LABELS if any(point.kind == kind for point in points))
    has_seeds = "seed" in kinds
    labels = LABELS if has_seeds else LABELS | {"mean": "job", "best": "best job"}
    marks = [Line2D([], [], linestyle="none", label=labels[kind], **MARKS[kind]) for kind in LABELS if kind in kinds]
    if any(point.interval for point in points):
        marks.append(Line2D([], [], color=MARKS["mean"]["color"], alpha=0.5, label="95 % interval of the mean"))
    if any(point.score is not None and span.is_beyond(point.score) for point in points):
        arrow = "^" if span.sign == 1 else "v"
        marks.append(
            Line2D([], [], linestyle="none", color=MARKS["mean"]["color"], marker=arrow, label="beyond the axis")
        )
    n_columns = max(1, int(figure.get_figwidth() / LEGEND_WIDTH))
    figure.legend(handles=marks, loc="outside lower left", ncols=n_columns, fontsize=8.5, frameon=False)
