"""Log lines and progress bars on the terminal."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import rich
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


class ConsoleHandler(logging.Handler):
    """Print log messages without time or level.

    Warnings and errors are coloured. Times and levels are in the log file.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        style = "yellow" if record.levelno == logging.WARNING else "red" if record.levelno > logging.WARNING else None
        rich.get_console().print(self.format(record), style=style, markup=False, highlight=False, soft_wrap=True)


# A terminal obeys control characters, which a model or an untrusted file may emit; line breaks and tabs are harmless.
CONTROL_CHARACTERS = {
    code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"
}


def printable(text: str) -> str:
    """Return a text without terminal control characters."""
    return text.translate(CONTROL_CHARACTERS)


MIN_BAR_BYTES = 20_000_000  # smaller transfers end before a bar can be read


@contextmanager
def byte_progress(title: str, n_bytes: int | None) -> Iterator[Callable[[int], None]]:
    """Show a progress bar of bytes.

    Yields the function that advances it.

    Args:
        n_bytes: the total; None if it is unknown.
    """
    console = Console(stderr=True)
    if not console.is_terminal or (n_bytes is not None and n_bytes < MIN_BAR_BYTES):
        yield lambda n: None
        return
    columns = (TextColumn(title), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=n_bytes)
        yield lambda n: bar.advance(task, n)


@contextmanager
def unit_progress(title: str, n: int, units: str = "windows") -> Iterator[Callable[[int], None]]:
    """Show a progress bar of units.

    Yields the function that advances it.
    """
    console = Console(stderr=True)
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TextColumn(units), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=n)
        yield lambda n: bar.advance(task, n)
