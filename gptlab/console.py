"""What a person reads while a command runs: log records through rich, so that they share a terminal with a bar."""

import logging

import rich


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
