"""Tables: .csv and .tsv files, in the dialect they were written in.

A dialect is the delimiter between columns, and whether quotation marks are quotes: marks around a text, which may then
hold the delimiter, line ends, and marks written twice (RFC 4180). Spreadsheets quote; many .tsv files, and lines
put together by hand, hold quotation marks that are part of the texts.
"""

import csv
import io
import logging
import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from gptlab.errors import UserError
from gptlab.storage.excerpts import excerpt, excerpt_names

DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
EXCEL_DELIMITER = re.compile(r"sep=(.)\r?\n")  # a first line in which spreadsheets name the delimiter

log = logging.getLogger(__name__)


class TableFormat(NamedTuple):
    """What a configuration says about .csv and .tsv files."""

    columns: list[str] | None  # their names in a file without a header; None takes them from its first line
    delimiter: str | None  # one of DELIMITERS by name, or any character; None guesses it
    quoting: bool | None  # whether quotation marks are quotes; None guesses it
    keys: str = "data.reader."  # where these settings stand, for messages


class Row(NamedTuple):
    """A row of a table."""

    cells: list[str]
    first: int  # number of its first line
    last: int
    problem: str | None = None  # why it cannot be read


class Dialect(NamedTuple):
    """How the rows of one file are written."""

    delimiter: str  # between two columns
    quoting: bool
    strict: bool  # whether a quote has to end where its column does; otherwise `"Hi" he said` is `Hi he said`


def read_table(
    text: str, path: Path, table: TableFormat, *, usual_delimiter: str
) -> Iterator[tuple[str, dict[str, str] | UserError]]:
    """Yield the place and the values of each row, or what is wrong with it.

    The delimiter is guessed from the first line: the usual one if it makes several columns there, else the first of
    DELIMITERS that does. Quoting is guessed from the whole file, which is read both ways: the way that leaves
    fewer lines unreadable counts, then the one that finds more rows, since an unclosed quotation mark joins rows, then
    quoting. Quotes that were chosen and not guessed are read leniently, as by pandas.

    Args:
        usual_delimiter: the delimiter of files of this ending.

    Raises:
        UserError: two columns have one name, or the delimiter is impossible.
    """
    # The csv module's default limit is 131,072 characters. The setting is global, so it is only ever raised.
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    delimiter = _choose_delimiter(text, path, table, usual_delimiter)
    guessed = table.quoting is None
    quoting = ('"' in text and _guess_quoting(text, path, table, delimiter)) if guessed else bool(table.quoting)
    names, rows = _read(text, Dialect(delimiter, quoting, strict=guessed), table)
    if twice := [name for name, n in Counter(filter(None, names)).items() if n > 1]:
        raise UserError(f"{path} has two columns of the name {excerpt_names(twice)}: rename one")
    n_joined = 0
    for row in rows:
        place = f"{path}, line {row.first}"
        n_joined += row.last > row.first
        if row.problem is None:
            yield place, {name: cell for name, cell in zip(names, row.cells, strict=True) if name}
        else:
            yield place, UserError(f"{place}: {row.problem}")
    if n_joined:
        log.info(f"{path}: rows that span several lines, within quotation marks: {n_joined:,}; see {table.keys}quoting")


def _choose_delimiter(text: str, path: Path, table: TableFormat, usual: str) -> str:
    """Return the delimiter between two columns, chosen or guessed."""
    if table.delimiter is not None:
        delimiter = DELIMITERS.get(table.delimiter, table.delimiter)
        if len(delimiter) != 1 or delimiter in '"\r\n':
            raise UserError(
                f"{table.keys}delimiter is {excerpt(table.delimiter)}, wanted {', '.join(DELIMITERS)} or one character"
            )
        return delimiter
    if named := EXCEL_DELIMITER.match(text):
        delimiter = named[1]
    else:
        delimiter = next((each for each in (usual, *DELIMITERS.values()) if _splits(text, each, table)), usual)
    if delimiter != usual:
        log.info(f"{path}: columns are separated by {_shown(delimiter)}; see {table.keys}delimiter")
    return delimiter


def _splits(text: str, delimiter: str, table: TableFormat) -> bool:
    """Return whether a delimiter makes the wanted columns of the first line, or several."""
    first = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
    return len(first) > 1 if table.columns is None else len(first) == len(table.columns)


def _guess_quoting(text: str, path: Path, table: TableFormat, delimiter: str) -> bool:
    """Return whether quotation marks are quotes, see `read_table`."""
    n_unread, n_rows = Counter[bool](), Counter[bool]()
    for quoting in (True, False):
        for row in _read(text, Dialect(delimiter, quoting, strict=True), table)[1]:
            if row.problem is None:
                n_rows[quoting] += 1
            else:
                n_unread[quoting] += row.last - row.first + 1
    if (n_unread[True], -n_rows[True]) <= (n_unread[False], -n_rows[False]):
        return True
    log.warning(
        f"{path}: quotation marks are read as part of the texts, which gives {n_rows[False]:,} rows; as quotes they "
        f"would give {n_rows[True]:,} and leave {n_unread[True]:,} lines unreadable: choose with {table.keys}quoting"
    )
    return False


def _read(text: str, dialect: Dialect, table: TableFormat) -> tuple[list[str], Iterator[Row]]:
    """Return the names of the columns, and the rows."""
    rows = _split(text, dialect, table)
    header = Row(table.columns, 0, 0) if table.columns is not None else next(rows, Row([], 0, 0))
    names = [name.strip() for name in header.cells]
    rows = chain([header] if header.problem else [], rows)
    return names, (row if row.problem else _fit(row, names, dialect, table) for row in rows)


def _split(text: str, dialect: Dialect, table: TableFormat) -> Iterator[Row]:
    """Yield every row that is not an empty line."""
    n_skipped = 1 if EXCEL_DELIMITER.match(text) else 0
    reader = csv.reader(
        islice(io.StringIO(text, newline=""), n_skipped, None),
        delimiter=dialect.delimiter,
        quoting=csv.QUOTE_MINIMAL if dialect.quoting else csv.QUOTE_NONE,
        strict=dialect.strict,
    )
    while True:
        first, problem = reader.line_num + n_skipped + 1, None
        try:
            cells = next(reader, None)
        except csv.Error as error:
            end = "is never closed" if "end of data" in str(error) else "closes before the end of its column"
            problem = f"a quotation mark {end}: correct it, or give {table.keys}quoting=false to read marks as text"
            cells = []
        if cells is None:
            return
        if cells or problem:
            yield Row(cells, first, reader.line_num + n_skipped, problem)


def _fit(row: Row, names: list[str], dialect: Dialect, table: TableFormat) -> Row:
    """Return a row with as many cells as there are names, or with its problem."""
    cells, wanted = row.cells, len(names)
    if len(cells) > wanted and not any(cells[wanted:]):  # a line may end in delimiters
        cells = cells[:wanted]
    if len(cells) != wanted:
        problem = (
            f"{len(cells)} columns, wanted {wanted} ({excerpt_names(names)}): quote texts that hold "
            f"{_shown(dialect.delimiter)}, or see {table.keys}delimiter and {table.keys}quoting"
        )
        return row._replace(problem=problem)
    if "\0" in "".join(cells):
        return row._replace(problem="it holds a NUL character: save the file as UTF-8 text")
    return row if cells is row.cells else row._replace(cells=cells)


def _shown(delimiter: str) -> str:
    return next((word for word, each in DELIMITERS.items() if each == delimiter), repr(delimiter))
