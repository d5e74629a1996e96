"""The leaderboard as cells, and as a table that fits the terminal."""

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len

from gptlab.evaluation.intervals import Interval
from gptlab.sweeps.leaderboard.groups import Group, Metric
from gptlab.sweeps.leaderboard.shortening import short_keys, shorten, shorten_column, show_values
from gptlab.sweeps.leaderboard.student import Contrast

if TYPE_CHECKING:
    from rich.table import Table

MIN_WIDTH, COMFORT = 6, 14  # of a column that is shortened: the least, and what is easy to read
MAX_DECIMALS = 6
MIN_HEAD, MAX_HEAD = 8, 20  # columns of a key's name: up to the least it is one line, and the most of a word
ALWAYS = 0  # importance of a column that is never left out
METRIC_COST = 2


class Column(NamedTuple):
    """A column of the table."""

    head: str
    cells: list[str]
    importance: int = ALWAYS  # columns with the highest number are left out first
    said_once: bool = False  # below the table, if all cells are equal
    is_key: bool = False  # the values can be shortened
    left: bool = False


def columns_of(
    groups: Sequence[Group], metric: Metric, others: Sequence[str], contrasts: Mapping[int, Contrast], *, memory: bool
) -> list[Column]:
    """Return all columns.

    Args:
        others: further metrics.
        contrasts: index of a row -> its difference to the row above; empty without this column.
        memory: whether to show it.
    """
    keys = list(dict.fromkeys(key for group in groups for key in group.varies))
    ranks = [str(rank) if group.mean is not None else "" for rank, group in enumerate(groups, 1)]
    jobs = [_numbers([job.number for job in group.jobs]) for group in groups]
    columns = [Column("", ranks), Column("job", jobs)]
    for key, head in zip(keys, short_keys(keys), strict=True):
        columns.append(Column(head, show_values([group.varies.get(key, "") for group in groups]), is_key=True))
    columns += _score_columns(groups, metric, contrasts)
    for name in others:
        means = [_mean_of(group, name) for group in groups]
        columns.append(Column(_metric_head(name), ["" if mean is None else f"{mean:.4g}" for mean in means], 5))
    columns += [
        Column("steps", [_count(group, "steps") for group in groups], 3, said_once=True),
        Column("tokens", [_count(group, "tokens") for group in groups], 4, said_once=True),
        Column("tok/s", [_rate(group) for group in groups], 6),
        Column("time", [_time(group) for group in groups], 1),
    ]
    if memory:
        columns.append(Column("GB", [_memory(group) for group in groups], 2))
    columns.append(Column("status", [group.status for group in groups], said_once=True, left=True))
    return [column for column in columns if any(column.cells)]


def fit(columns: Sequence[Column], width: int) -> tuple[list[Column], list[str]]:
    """Return the columns that fit the width, with shortened values, and the heads of those that were left out.

    Less important columns go before the values become hard to read.
    """
    kept, left_out = list(columns), []
    while width_of(_shortened(kept, COMFORT)) > width and any(column.importance for column in kept):
        last = max(reversed(kept), key=lambda column: column.importance)
        kept.remove(last)
        left_out.append(last.head.replace("\n", " "))
    longest = max((cell_len(cell) for column in kept if column.is_key for cell in column.cells), default=0)
    caps = range(max(min(longest, width), MIN_WIDTH), MIN_WIDTH, -1)
    cap = next((cap for cap in caps if width_of(_shortened(kept, cap)) <= width), MIN_WIDTH)
    return _shortened(kept, cap), left_out


def common_values(columns: Sequence[Column]) -> tuple[list[Column], str]:
    """Return the columns that differ between the rows, and a sentence about the others.

    Rows without a result have no counts, but a status.
    """
    kept, said, partly = [], [], False
    for column in columns:
        cells = [cell for cell in column.cells if cell]
        if column.said_once and len(cells) > 1 and len(set(cells)) == 1:
            said.append(cells[0] if column.head == "status" else f"{cells[0]} {column.head}")
            partly = partly or len(cells) < len(column.cells)
        else:
            kept.append(column)
    which = "Every row with a result" if partly else "Every row"
    return kept, f"{which}: {', '.join(said)}" if said else ""


def draw(columns: Sequence[Column], styles: Sequence[str], title: str) -> "Table":
    """Return the table, each row in its style."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0, pad_edge=False)
    for column in columns:
        table.add_column(Text(column.head), justify="left" if column.left else "right", no_wrap=True)
    for index, style in enumerate(styles):  # as Text: the brackets of a list are no markup
        table.add_row(*(Text(column.cells[index]) for column in columns), style=style)
    return table


def style_of(group: Group, rank: int, *, n_rows: int) -> str:
    """Return the colour of a row, by its rank and status."""
    if group.mean is not None:
        return "green" if rank == 1 < n_rows else ""
    return "red" if all(job.status == "failed" for job in group.jobs) else "yellow"


def decimals(value: float, half: float | None) -> int:
    """Return the decimal places that a value needs, with two digits of its interval."""
    own = len(f"{abs(value):#.4g}".partition("e")[0].partition(".")[2])
    spread = len(f"{half:#.2g}".partition("e")[0].partition(".")[2]) if half else 0
    return min(max(own, spread), MAX_DECIMALS)


def show_mean(value: float, half: float | None) -> str:
    """Return a mean with four digits, or as many as its interval gives meaning to."""
    return f"{value:.4g}" if half is None or abs(value) >= 1e4 else f"{value:.{decimals(value, half)}f}"


def _score_columns(groups: Sequence[Group], metric: Metric, contrasts: Mapping[int, Contrast]) -> list[Column]:
    """Return the columns of the metric that the rows are ranked by."""
    means, intervals = [], []
    for group in groups:
        half = _half(group.interval)
        if group.mean is None:
            partial = group.partial()
            means.append("" if partial is None else f"({partial:.4g})")
        else:
            means.append(show_mean(group.mean, half))
        intervals.append("" if half is None else f"±{half:.2g}")
    columns = [Column(_metric_head(metric.name), means), Column("95 %", intervals)]
    if contrasts:
        shown = [_change(contrasts[index]) if index in contrasts else "" for index in range(len(groups))]
        columns.append(Column("to the row above", shown))
    counts = [str(group.n) if group.mean is not None else "" for group in groups]
    return columns + ([Column("n", counts, METRIC_COST)] if any(group.n > 1 for group in groups) else [])


def _change(found: Contrast) -> str:
    if found.interval is None:
        return f"{found.value:+.3g}"
    low, high = found.interval
    return f"{found.value:+.3g} [{low:+.2g}, {high:+.2g}]"


def _half(interval: Interval | None) -> float | None:
    return None if interval is None else (interval.high - interval.low) / 2


def _metric_head(name: str) -> str:
    return name.rpartition("/")[2].replace("_", "\n")  # one word per line, to fit 80 columns


def _mean_of(group: Group, name: str) -> float | None:
    values = [job.metrics[name] for job in group.complete if name in job.metrics]
    return sum(values) / len(values) if values else None


def _numbers(numbers: Sequence[int]) -> str:
    """Return numbers of jobs, neighbours as a span: 0-2,5."""
    spans: list[list[int]] = []
    for number in sorted(set(numbers)):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in spans)


def _count(group: Group, name: str) -> str:
    """Return a count, or its range over the seeds."""
    values = group.costs(name)
    if not values:
        steps = [job.latest[0] for job in group.jobs if job.latest[0]]
        return f"{max(steps):,}" if steps and name == "steps" else ""
    low, high = min(values), max(values)
    return _short_count(low) if low == high else f"{_short_count(low)}-{_short_count(high)}"


def _short_count(value: float) -> str:
    """Return a count: 30,720, or 1.23M."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:,.0f}"


def _rate(group: Group) -> str:
    rates = group.costs("tokens_per_second")
    return f"{sum(rates) / len(rates):,.0f}" if rates else ""


def _time(group: Group) -> str:
    """Return the mean time of a job's training."""
    seconds = group.costs("seconds") or group.costs("total_seconds")
    return str(timedelta(seconds=round(sum(seconds) / len(seconds)))).removeprefix("0:") if seconds else ""


def _memory(group: Group) -> str:
    peaks = group.costs("memory_gb")
    return f"{max(peaks):.2f}" if peaks else ""


def _shortened(columns: Sequence[Column], cap: int) -> list[Column]:
    """Return the columns, those of keys with heads and values of at most `cap` columns."""

    def shortened(column: Column) -> Column:
        cells = shorten_column(column.cells, cap)
        return column._replace(head=_lines(column.head, max(MIN_HEAD, *map(cell_len, cells))), cells=cells)

    return [shortened(column) if column.is_key else column for column in columns]


def _lines(head: str, width: int) -> str:
    """Return the name of a key in lines as wide as its values, broken after an underscore or a dot."""
    lines = [""]
    for word in re.findall(r"[^_.]+[_.]?|[_.]", head):
        lines = [*lines[:-1], lines[-1] + word] if cell_len(lines[-1] + word) <= width else [*lines, word]
    return "\n".join(shorten(line, MAX_HEAD) for line in lines if line)


def width_of(columns: Sequence[Column]) -> int:
    """Return the columns that the table takes, a blank between columns."""
    return 1 + sum(1 + max(cell_len(text) for text in (*column.head.split("\n"), *column.cells)) for column in columns)
