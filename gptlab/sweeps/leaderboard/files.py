"""`leaderboard.csv`, a row for each job, and `leaderboard.md`, the answer."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gptlab.storage.atomic import atomic_write
from gptlab.sweeps.leaderboard.board import Board
from gptlab.sweeps.leaderboard.groups import COSTS, varied_keys
from gptlab.sweeps.leaderboard.next_steps import checkpoint_of, next_command
from gptlab.sweeps.leaderboard.records import RUNNING, Job, as_number
from gptlab.sweeps.leaderboard.table import Column

CSV_FILE, MARKDOWN_FILE = "leaderboard.csv", "leaderboard.md"
FIRST, LAST = ("rank", "row", "job", "status"), ("folder", "error")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would compute a cell that begins so


def write_csv(board: Board, folder: Path) -> None:
    """Write a row for each job, the best first, every value whole."""
    metric, jobs = board.metric, board.jobs
    rows = {id(job): number for number, group in enumerate(board.groups, 1) for job in group.jobs}
    scores = {id(job): metric.score(job) for job in jobs}
    ranked = sorted(
        jobs, key=lambda job: (not job.complete or scores[id(job)] is None, metric.sign * (scores[id(job)] or 0.0))
    )
    names = list(dict.fromkeys([metric.name, *(name for job in jobs for name in (*job.metrics, *job.latest[1]))]))
    measured = [name for name in names if name not in COSTS]
    columns = [*FIRST, *varied_keys(jobs), *measured, *COSTS, *LAST]
    text = io.StringIO()
    table = csv.DictWriter(text, list(dict.fromkeys(columns)), lineterminator="\n")
    table.writeheader()
    for rank, job in enumerate(ranked, 1):
        has_rank = job.complete and scores[id(job)] is not None
        first = {"rank": rank if has_rank else "", "row": rows[id(job)], "job": job.number, "status": job.status}
        values = (
            first | dict(job.varies) | _metrics(job) | _costs(job) | {"folder": str(job.folder), "error": job.error}
        )
        table.writerow({name: _cell(value) for name, value in values.items()})
    atomic_write(folder / CSV_FILE, text.getvalue())


def write_markdown(board: Board, folder: Path) -> None:
    """Write the answer, as one would paste it into an issue."""
    atomic_write(folder / MARKDOWN_FILE, "\n".join(_markdown(board)) + "\n")


def _markdown(board: Board) -> Iterator[str]:
    yield f"**{_escaped(board.title)}**"
    yield ""
    yield from _table(board.columns)
    for sentence in (*([board.common] if board.common else []), *board.sentences, *board.failures):
        yield ""
        yield f"{_escaped(sentence)}."
    blocks = list(board.commands)
    if board.best is not None:
        blocks.append((f"Its checkpoint, {_escaped(checkpoint_of(board.best))}", [next_command(board.best)]))
    for title, commands in blocks:
        yield from ("", f"{title}:", "", "```bash")
        yield from (re.sub(r"`{3,}", "``", " ".join(command.splitlines())) for command in commands)
        yield "```"


def _table(columns: Sequence[Column]) -> Iterator[str]:
    yield "| " + " | ".join(_escaped(column.head) or " " for column in columns) + " |"
    yield "|" + "|".join(" :--- " if column.left else " ---: " for column in columns) + "|"
    for cells in zip(*(column.cells for column in columns), strict=True):
        yield "| " + " | ".join(_escaped(cell) for cell in cells) + " |"


def _escaped(text: str) -> str:
    """Return a text without markup: a stranger's value is no link, picture or column."""
    return re.sub(r"([\\`*_{}\[\]<>|#!~&])", r"\\\1", " ".join(text.split()))


def _metrics(job: Job) -> dict[str, float]:
    return dict(job.latest[1]) if job.status == RUNNING else job.metrics


def _costs(job: Job) -> dict[str, Any]:
    costs = {name: as_number(job.summary.get(name)) for name in COSTS}
    whole = {name: int(value) if value is not None and value.is_integer() else value for name, value in costs.items()}
    return whole | ({"steps": job.latest[0]} if job.status == RUNNING and job.latest[0] else {})


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
