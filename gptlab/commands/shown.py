"""What a model wrote, on a terminal."""

import sys


def show(text: str) -> None:
    """Writes it at once: into a file or another program as it is, to a terminal without the characters it obeys."""
    if sys.stdout.isatty():
        from gptlab.console import printable

        text = printable(text)
    print(text, end="", flush=True)
