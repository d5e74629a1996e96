"""What a person reads while a command runs: log records through rich, so that they share a terminal with a bar."""

import contextlib
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
    """Prints the message alone; the file handler keeps times and levels. Warnings stand out."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints one record."""
        style = "yellow" if record.levelno == logging.WARNING else "red" if record.levelno > logging.WARNING else None
        rich.get_console().print(self.format(record), style=style, markup=False, highlight=False, soft_wrap=True)


# A terminal obeys control characters, and a model or a stranger's file may hold any; line breaks and tabs do no harm.
_CONTROL = {code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def printable(text: str) -> str:
    """Return a text without the characters that a terminal obeys."""
    return text.translate(_CONTROL)


MIN_BYTES = 20_000_000  # bytes; less is done before a bar could be read


@contextlib.contextmanager
def byte_progress(what: str, n_bytes: int | None) -> Iterator[Callable[[int], None]]:
    """A function to call with the number of bytes just done; the total is None where nobody knows it."""
    console = Console(stderr=True)
    if not console.is_terminal or (n_bytes is not None and n_bytes < MIN_BYTES):
        yield lambda n: None
        return
    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=n_bytes)
        yield lambda n: bar.advance(task, n)


@contextmanager
def unit_progress(what: str, n: int, units: str = "windows") -> Iterator[Callable[[int], None]]:
    """A function to call with the number of units just done."""
    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn(units), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=n)
        yield lambda n: bar.advance(task, n)
