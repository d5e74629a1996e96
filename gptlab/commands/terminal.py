"""What a command reads from the command line and writes to the terminal."""

import sys
from typing import TextIO


def write(text: str, stream: TextIO | None = None) -> None:
    """Write a text at once: to a file or a pipe as it is, to a terminal without the characters that it obeys.

    Args:
        stream: None is the standard output.
    """
    stream = stream or sys.stdout
    if stream.isatty():
        from gptlab.console import printable

        text = printable(text)
    print(text, end="", file=stream, flush=True)


def raw_option(key: str, overrides: list[str]) -> tuple[str | None, list[str]]:
    """`key=TEXT` as it was typed, commas, brackets and all, None where it was not; and the overrides that are left."""
    typed = [word.partition("=")[2] for word in overrides if word.startswith(f"{key}=")]
    if not typed:
        return None, overrides
    text = typed[-1]
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1]  # somebody knows that Hydra wants such text quoted
    return text, [word for word in overrides if not word.startswith(f"{key}=")]
