"""Text from the command line, and to the terminal."""

import sys
from collections.abc import Mapping
from typing import Any, TextIO


def write(text: str, stream: TextIO | None = None) -> None:
    """Write and flush a text without a terminal's control characters.

    A terminal would execute them. Files and pipes get the unchanged text.

    Args:
        stream: None is standard output.
    """
    stream = stream or sys.stdout
    if stream.isatty():
        from gptlab.console import printable

        text = printable(text)
    print(text, end="", file=stream, flush=True)


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
