"""What the terminal shows: log lines, coloured text and progress bars.

Colour is rich's to decide: none with NO_COLOR, in a file or in a pipe, unless FORCE_COLOR asks for it.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from time import perf_counter

import rich
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.filesize import decimal
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

# A terminal obeys control characters, which a model or an untrusted file may emit; line breaks and tabs are harmless.
CONTROL_CHARACTERS = {
    code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"
}


def printable(text: str) -> str:
    """Return a text without terminal control characters."""
    return text.translate(CONTROL_CHARACTERS)


def capitalised(sentence: str) -> str:
    """Return a sentence with its first letter in upper case."""
    return sentence[:1].upper() + sentence[1:]


def print_text(text: str, console: Console, *, style: str = "", marks: Mapping[str, str] | None = None) -> None:
    """Print a text literally, and never break its lines, so that they can be copied.

    Args:
        style: colour of the text.
        marks: words in the text -> their colour.
    """
    shown = Text(printable(text) if console.is_terminal else text, style)
    for words, colour in (marks or {}).items():
        shown.highlight_words([words], colour)
    console.print(shown, soft_wrap=True)


def level_colour(level: int) -> str:
    """Return the colour of a log message; empty below the level of a warning."""
    return "yellow" if level == logging.WARNING else "red" if level > logging.WARNING else ""


class ConsoleHandler(logging.Handler):
    """Print log messages without time or level, which are in the log file.

    Warnings and errors are coloured, other messages as `extra={"style": ..., "marks": ...}` of the logging call says;
    a line with `extra={"parts": ...}` is broken between them where the terminal is too narrow.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        level = level_colour(record.levelno)
        console, text = rich.get_console(), self.format(record)
        if console.is_terminal and hasattr(record, "parts"):
            text = join_parts(record.parts, width=console.width)
        print_text(text, console, style=getattr(record, "style", level), marks=getattr(record, "marks", None))


SEPARATOR = " · "


def join_parts(parts: Sequence[str], *, width: int | None = None) -> str:
    """Return parts as one line, or as indented lines of at most `width` columns."""
    lines = [parts[0]]
    for part in parts[1:]:
        if width is not None and len(lines[-1]) + len(SEPARATOR) + len(part) > width:
            lines.append(f"    {part}")
        else:
            lines[-1] += SEPARATOR + part
    return "\n".join(lines)


def show_clock(seconds: float) -> str:
    """Return a duration in minutes and seconds (1:05), or hours and minutes (2h07m)."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02}m"


def is_animated(console: Console) -> bool:
    """Return whether a bar can move there.

    It can in a terminal, but not with TERM=dumb or in a file with FORCE_COLOR; and in a notebook that has `ipywidgets`.
    """
    if console.is_jupyter:
        return find_spec("ipywidgets") is not None
    return console.is_interactive and console.file.isatty()


class StatusLine:
    """A live line at the bottom of the terminal: words and a bar.

    On a narrow terminal the least important words are missing; none is cut.

    Args:
        read: returns the share that is done, None if it is unknown, and the words by name, in the line's order.
        importance: names of words, the most important first, with `bar` among them.
    """

    def __init__(
        self,
        read: Callable[[], tuple[float | None, Mapping[str, str]]],
        *,
        console: Console,
        importance: Sequence[str] = ("title", "count", "left", "bar", "elapsed", "rate"),
    ) -> None:
        self.read, self.importance = read, importance
        self.live = Live(self, console=console, transient=True)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the line for the console's present width."""
        share, words = self.read()
        kept, free = set(), options.max_width + len(SEPARATOR)
        for name in self.importance:
            # two spaces around the bar replace a separator
            width = MIN_BAR_WIDTH - 1 if name == "bar" else len(words.get(name, "")) + len(SEPARATOR)
            if width <= free and (name in words or name == "bar"):
                kept.add(name)
                free -= width
        parts = [word for name, word in words.items() if name in kept]
        row: list[RenderableType] = [SEPARATOR.join(parts)]
        if "bar" in kept and len(parts) > 1:
            rest = SEPARATOR.join(parts[1:])
            width = min(MAX_BAR_WIDTH, options.max_width - len(parts[0]) - len(rest) - 2)
            bar = ProgressBar(total=None if share is None else 1.0, completed=share or 0.0, width=width)
            row = [parts[0], bar, rest]
        grid = Table.grid(padding=(0, 1))
        grid.add_row(*(Text(each) if isinstance(each, str) else each for each in row))
        yield grid


MIN_BAR_WIDTH, MAX_BAR_WIDTH = 5, 40  # columns
MIN_BAR_BYTES = 20_000_000  # smaller transfers end before a bar can be read
MAX_TITLE = 30  # columns


@contextmanager
def byte_progress(title: str, n_bytes: int | None) -> Iterator[Callable[[int], None]]:
    """Show a progress bar of bytes.

    Yields the function that advances it.

    Args:
        n_bytes: the total; None if it is unknown.
    """
    small = n_bytes is not None and n_bytes < MIN_BAR_BYTES
    with _progress(title, n_bytes, decimal, hidden=small) as advance:
        yield advance


@contextmanager
def unit_progress(title: str, n: int, units: str = "windows") -> Iterator[Callable[[int], None]]:
    """Show a progress bar of units.

    Yields the function that advances it.
    """
    with _progress(title, n, lambda done: f"{done:,}", units=f" {units}") as advance:
        yield advance


@contextmanager
def _progress(
    title: str, total: int | None, show: Callable[[int], str], *, units: str = "", hidden: bool = False
) -> Iterator[Callable[[int], None]]:
    console = Console(stderr=True)
    if hidden or not is_animated(console):
        yield lambda n: None
        return
    done, start = 0, perf_counter()
    title = title if len(title) <= MAX_TITLE else f"{title[: MAX_TITLE - 1]}…"

    def advance(n: int) -> None:
        nonlocal done
        done += n

    def read() -> tuple[float | None, dict[str, str]]:
        seconds = perf_counter() - start
        words = {"title": title, "count": show(done) + (f"/{show(total)}" if total else "") + units}
        words["elapsed"] = f"{show_clock(seconds)} elapsed"
        if total and done:
            words["left"] = f"{show_clock(seconds / done * max(0, total - done))} left"
        return (min(1.0, done / total) if total else None), words

    with StatusLine(read, console=console).live:
        yield advance
