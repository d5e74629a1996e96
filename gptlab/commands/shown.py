"""What a model wrote, on a terminal."""

import sys

# A terminal obeys control characters, and a model may write any; line breaks and tabs do no harm.
_CONTROL = {code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def show(text: str) -> None:
    """Writes it at once: into a file or another program as it is, to a terminal without the characters it obeys."""
    print(text.translate(_CONTROL) if sys.stdout.isatty() else text, end="", flush=True)
