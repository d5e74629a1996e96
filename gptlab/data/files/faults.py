"""Malformed records: an error, or left out and counted."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from gptlab.errors import UserError

N_SHOWN = 3

OnError = Literal["error", "skip"]

log = logging.getLogger(__name__)


class Faults:
    """Decides about malformed records, and counts those that are left out.

    A reader reads each record within `caught`, and the dataset calls `report` once all are read. A fault of a whole
    file, such as a .json file that is not JSON, is always an error.

    Args:
        on_error: `error` raises the first error, `skip` leaves such records out; None raises it too, where the user has
            no key to choose `skip`.
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
            if len(self.first) < N_SHOWN:
                self.first.append(str(error))

    def report(self, n_usable: int) -> None:
        """Log how many records were left out, and why the first three.

        Args:
            n_usable: the records that were kept.

        Raises:
            UserError: all records were left out.
        """
        if not self.n_records:
            return
        if not n_usable:
            raise UserError(f"none of {self.n_records:,} records can be used, first: {self.first[0]}")
        shown = [*self.first, "..."] if self.n_records > N_SHOWN else self.first
        n_all = self.n_records + n_usable
        log.warning(f"left out {self.n_records:,} of {n_all:,} records that are malformed: {'; '.join(shown)}")
