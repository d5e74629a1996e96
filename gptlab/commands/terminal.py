"""Text from the command line, and to the terminal."""

import codecs
import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

ASCII = str.maketrans({"·": "-", "…": "..."})  # what our own lines contain


def escape_unencodable() -> None:
    """Write what standard output and error cannot encode as JSON's escapes.

    Python would fail. No character is lost, and JSON stays JSON.
    """
    codecs.register_error("gptlab", _escape)
    for stream in (sys.stdout, sys.stderr):
        own = {"strict", "backslashreplace"}  # Python's choices; the user asked for any other
        if getattr(stream, "encoding", None) != "utf-8":
            own.add("surrogateescape")  # in the C locale, where it fails for all but file names
        if getattr(stream, "errors", None) in own:
            stream.reconfigure(errors="gptlab")  # type: ignore[union-attr]


def _escape(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end].translate(ASCII))[1:-1], error.end


def write(text: str, stream: TextIO | None = None, *, style: str = "") -> None:
    """Write and flush a text without a terminal's control characters.

    A terminal would execute them. Files and pipes get the unchanged text.

    Args:
        stream: None is standard output.
        style: colour in a terminal.
    """
    stream = stream or sys.stdout
    if style:
        from rich.console import Console

        from gptlab.console import print_text

        print_text(text.removesuffix("\n"), Console(file=stream), style=style)
        return
    if stream.isatty():
        from gptlab.console import printable

        text = printable(text)
    print(text, end="", file=stream, flush=True)


class StderrHandler(logging.Handler):
    """Print log messages where a command has no log, warnings and errors in colour."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record to standard error."""
        from gptlab.console import level_colour

        write(f"{self.format(record)}\n", sys.stderr, style=level_colour(record.levelno))


@contextmanager
def notes_of(logger: str) -> Iterator[None]:
    """Log what a package notes below the level of a warning."""
    noting = logging.getLogger(logger)
    level = noting.level
    noting.setLevel(logging.INFO)
    try:
        yield
    finally:
        noting.setLevel(level)


def write_note(text: str) -> None:
    """Write a remark about a result to standard error, coloured for a terminal."""
    write(f"{text}\n", sys.stderr, style="yellow")


def write_own_sampling(values: Mapping[str, Any]) -> None:
    """Write what a model's folder says about sampling to standard error."""
    if values:
        shown = ", ".join(f"{name}={value}" for name, value in values.items())
        write(f"sampling as the model's folder has it: {shown} (change it with sampling.KEY=VALUE)\n", sys.stderr)


def raw_option(key: str, overrides: list[str]) -> tuple[str | None, list[str]]:
    """Split off `key=TEXT`, its text as typed.

    Hydra would read commas, brackets and quotes in it as its own syntax.

    Returns:
        The text, or None if the key was not typed; and the other overrides.
    """
    typed = [word.partition("=")[2] for word in overrides if word.startswith(f"{key}=")]
    if not typed:
        return None, overrides
    text = typed[-1]
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1]  # quoted for Hydra, as its manual asks
    return text, [word for word in overrides if not word.startswith(f"{key}=")]
