"""The leaderboard on the terminal and in files."""

import logging
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gptlab.console import print_text
from gptlab.sweeps.leaderboard import next_steps
from gptlab.sweeps.leaderboard.board import Board
from gptlab.sweeps.leaderboard.files import CSV_FILE, MARKDOWN_FILE, write_csv, write_markdown
from gptlab.sweeps.leaderboard.picture.points import drawn_keys
from gptlab.sweeps.leaderboard.records import PRUNED, RUNNING, Job, read_jobs
from gptlab.sweeps.leaderboard.sweep_record import OPTIONS, read_options
from gptlab.sweeps.leaderboard.table import draw, fit, style_of, width_of
from gptlab.sweeps.search.journal import is_search

if TYPE_CHECKING:
    from rich.console import Console

log = logging.getLogger(__name__)

MIN_WIDTH = 40  # columns; a narrower terminal breaks the table's lines


def show_leaderboard(sweep: Path, console: "Console", *, resume: bool = True) -> None:
    """Print a sweep's leaderboard as it is now, and write its files.

    Args:
        resume: whether to print the command that runs unfinished jobs.
    """
    board = Board(read_jobs(sweep), str(sweep), read_options(sweep))
    if board.jobs:
        write_tables(board, sweep)
        print_board(board, console, resume=resume)
        write_picture(board, sweep)


def update_files(sweep: Path) -> None:
    """Write a sweep's csv and markdown files as it is now, without the picture."""
    if jobs := read_jobs(sweep):
        write_tables(Board(jobs, str(sweep), read_options(sweep)), sweep)


def show_failures(jobs: Sequence[Job], console: "Console") -> None:
    """Print each error with the jobs that failed for it."""
    for sentence in Board(jobs, "", OPTIONS).failures:
        print_text(sentence, console, style="red")


def write_tables(board: Board, folder: Path) -> None:
    """Write csv and markdown; a folder that cannot be written is only logged."""
    with _logged(folder):
        write_csv(board, folder)
        write_markdown(board, folder)


def write_picture(board: Board, folder: Path) -> None:
    """Write the picture, as a file and for TensorBoard; a folder that cannot be written is only logged."""
    from gptlab.sweeps.leaderboard.picture.figure import save_picture  # matplotlib takes a second to import

    with _logged(folder):
        save_picture(board, folder)


@contextmanager
def _logged(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        log.warning(f"{folder}: the leaderboard's files cannot be written ({error})")


def print_board(board: Board, console: "Console", *, resume: bool = True) -> None:
    """Print the table, the verdict, errors and next commands."""
    columns, left_out = fit(board.columns, max(console.width, MIN_WIDTH))
    n_rows = len(board.groups)
    styles = [style_of(group, rank, n_rows=n_rows) for rank, group in enumerate(board.groups, 1)]
    if board.options.order == "given":
        styles = ["" if style == "green" else style for style in styles]
    table = draw(columns, styles, board.title)
    if width_of(columns) > console.width:  # broken by the terminal, not cut
        table.width = width_of(columns)
    console.print(table, highlight=False, soft_wrap=True)
    more = f"{', '.join(left_out)}: no room, see {CSV_FILE}" if left_out else ""
    for sentence in [board.common, more, *board.sentences]:
        if sentence:
            print_sentence(sentence, console)
    for sentence in board.failures:
        print_text(sentence, console, style="red")
    print_text("\n".join(_closing_lines(board, resume=resume)), console)


def print_sentence(sentence: str, console: "Console") -> None:
    """Print a sentence, broken between words."""
    from rich.text import Text

    from gptlab.console import printable

    console.print(Text(printable(sentence)), highlight=False)


def _closing_lines(board: Board, *, resume: bool) -> list[str]:
    """Return the commands that follow, each in a line."""
    lines, best = [], board.best
    for title, commands in board.commands:
        lines += ["", title, *(f"  {command}" for command in commands)]
    if best is not None:
        lines.append(f"Its checkpoint: {next_steps.checkpoint_of(best)}")
    if board.folder:
        _, left_out = drawn_keys(board)
        without = f" (without {', '.join(left_out)})" if left_out else ""
        lines += [
            "",
            f"All metrics of all jobs: {board.folder}/{CSV_FILE}; to paste: {MARKDOWN_FILE}; "
            f"picture: sweep.png{without}",
        ]
        settled = (RUNNING, PRUNED, *(["failed"] if is_search(Path(board.folder)) else []))  # not run again
        if resume and any(job.status not in settled for job in board.jobs if not job.complete):
            lines += ["", "To run the unfinished jobs", f"  {next_steps.resume_command(Path(board.folder))}"]
    worse = best is not None and best.summary.get("best_step") == 0
    following = [] if best is None else [f"  {next_steps.next_command(best)}"]
    if _has_tensorboard(board.jobs) and board.folder:
        following.append(f"  tensorboard --logdir {shlex.quote(board.folder)}")
    title = "Next, with the weights that the jobs started from" if worse else "Next"
    return [*lines, "", title, *following] if following else lines


def _has_tensorboard(jobs: Sequence[Job]) -> bool:
    return any(job.summary.get("tensorboard", True) for job in jobs)  # unknown of a job that failed
