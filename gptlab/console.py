"""What a person reads while a command runs: log records through rich, so that they share a terminal with a bar."""

import logging

import rich


class ConsoleHandler(logging.Handler):
    """Prints the message alone; the file handler keeps times and levels. Warnings stand out."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints one record."""
        style = "yellow" if record.levelno == logging.WARNING else "red" if record.levelno > logging.WARNING else None
        rich.get_console().print(self.format(record), style=style, markup=False, highlight=False, soft_wrap=True)
