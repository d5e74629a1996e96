"""Faults of records: an error, or a count."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from gptlab.errors import UserError

N_SHOWN = 3

OnError = Literal["error", "skip"]

log = logging.getLogger(__name__)


class Faults:
    """What happens to records that cannot be used.

    A reader catches the error of each record, and the data set reports them once all are read. What spoils a whole
    file, such as a .json file that is no JSON, is an error in any case.

    Args:
        on_error: `error` raises the first, `skip` leaves these records out; None raises the first where no
            configuration key could change that.
    """

    def __init__(self, *, on_error: OnError | None) -> None:
        self.on_error = on_error
        self.n_records = 0
        self.first: list[str] = []  # messages

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Count the error of one record, if such records are left out.

        Raises:
            UserError: they are not left out; the message then names the key that does.
        """
        try:
            yield
        except UserError as error:
            if self.on_error is None:
                raise
            if self.on_error == "error":
                raise UserError(f"{error}; data.on_error=skip leaves such records out") from error
            self.n_records += 1
            self.first += [str(error)] * (len(self.first) < N_SHOWN)

    def report(self, n_usable: int) -> None:
        """Log how many records were left out, and why the first three.

        Args:
            n_usable: how many records are not among them.

        Raises:
            UserError: none.
        """
        if not self.n_records:
            return
        if not n_usable:
            raise UserError(f"none of {self.n_records:,} records can be used, first: {self.first[0]}")
        shown = "; ".join(self.first) + " ..." * (self.n_records > N_SHOWN)
        log.warning(f"left out {self.n_records:,} of {self.n_records + n_usable:,} records that are malformed: {shown}")
