"""A bar for work that takes long, on a terminal only; it leaves no trace."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

LONG = 20_000_000  # bytes; less is done before a bar could be read


@contextlib.contextmanager
def progress(what: str, n_bytes: int | None) -> Iterator[Callable[[int], None]]:
    """A function to call with the number of bytes just done; the total is None where nobody knows it."""
    console = Console(stderr=True)
    if not console.is_terminal or (n_bytes is not None and n_bytes < LONG):
        yield lambda n: None
        return
    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=n_bytes)
        yield lambda n: bar.advance(task, n)
