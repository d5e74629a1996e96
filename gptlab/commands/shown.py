"""What a model or a stranger wrote, on a terminal."""

import sys
from typing import TextIO


def show(text: str, stream: TextIO | None = None) -> None:
    """Write a text at once: to a file or a pipe as it is, to a terminal without the characters that it obeys.

    Args:
        stream: None is the standard output.
    """
    stream = stream or sys.stdout
    if stream.isatty():
        from gptlab.console import printable

        text = printable(text)
    print(text, end="", file=stream, flush=True)
