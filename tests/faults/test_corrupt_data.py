"""Any corrupted data file is prepared, or refused in one sentence."""

import glob
import gzip
import io
import itertools
import json
import sqlite3
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gptlab.data.files.paths import collect
from gptlab.errors import is_users
from tests.faults.test_data_faults import CONF, composed, prepare

HEALTH = [HealthCheck.too_slow]  # how fast files are drawn depends on the machine
FEW, MANY = 20, 1000  # files of each kind
LONGEST_SENTENCE = 1500  # characters


def as_lines(*records: Any) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def zipped(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def bible() -> bytes:
    """Write a database of two books."""
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE Books(TestamentID INT, BookID INT, ShortName TEXT, LongName TEXT)")
    columns = "TestamentID INT, BookID INT, ChapterID INT, VerseID INT, Passage1 TEXT, Passage2 TEXT"
    database.execute(f"CREATE TABLE Bible({columns})")
    for book in range(1, 9):
        database.execute("INSERT INTO Books VALUES(?, ?, ?, ?)", (1 + book % 2, book, f"Book {book}", f"Book {book}"))
        for verse in range(1, 9):
            values = (1 + book % 2, book, 1, verse, f"1:{verse} And the king went", f"to river {book}.")
            database.execute("INSERT INTO Bible VALUES(?, ?, ?, ?, ?, ?)", values)
    return database.serialize()


TEXT = "".join(f"The river number {i} is caf\u00e9.\r\n" for i in range(40)).encode()
TURNS = [
    [{"role": "user", "content": f"Who is {i}?"}, {"role": "assistant", "content": f"The king {i}."}] for i in range(12)
]
ALPACA = [{"instruction": f"Add {i}.", "input": "", "output": f"It is {i}."} for i in range(12)]
LABELLED = [{"text": f"the river \u00e9 {i}", "label": i % 2} for i in range(24)]
PAIRS = [{"prompt": f"Who is {i}?", "chosen": f"The king {i}.", "rejected": "No."} for i in range(12)]
SMALL_TALK = "conversations:\n" + "".join(f"- - Who is {i}?\n  - 'The king {i}.'\n" for i in range(12))

COLUMNS = b"prompt\tresponse\n" + b"Who?\tI\nWhat?\tIt\nYes?\tNo\n" * 5
# name -> file, its content, and the overrides that read it
KINDS: dict[str, tuple[str, bytes, tuple[str, ...]]] = {
    "txt": ("a.txt", TEXT, ("data=text", "data.reader.separator=number")),
    "txt.gz": ("a.txt.gz", gzip.compress(TEXT), ("data=text",)),
    "text jsonl": ("a.jsonl", as_lines(*LABELLED), ("data=text", "model.context_length=8")),
    "kjv": ("a.db", bible(), ("data=kjv", "data.sha256=null", "data.val_documents=[]")),
    "testament": ("a.db", bible(), ("data=testament", "data.sha256=null")),
    "labelled json": ("a.json", json.dumps(LABELLED).encode(), ("data=jsonl",)),
    "labelled csv": ("a.csv", b"text,label\n" + b'"a, ""b""",0\r\nb,1\n' * 12, ("data=csv",)),
    "labelled zip": ("a.zip", zipped("a.jsonl", as_lines(*LABELLED)), ("data=jsonl",)),
    "messages": ("a.jsonl", as_lines(*({"messages": turns} for turns in TURNS)), ("data=chat",)),
    "alpaca": ("a.json", json.dumps(ALPACA).encode(), ("data=chat", "data.reader.format=alpaca")),
    "columns": ("a.tsv", COLUMNS, ("data=chat", "data.reader.format=columns")),
    "chatterbot": ("a.yml", SMALL_TALK.encode(), ("data=chatter", "data.reader.sha256=null")),
    "pairs": ("a.jsonl", as_lines(*PAIRS), ("data=preferences",)),
}
SNIPPETS = [
    *(b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r", b"\n", b'"', b"'", b",", b"\t", b"\\"),
    *(b"{", b"}", b"null", b"NaN", b"1e999", b"9" * 5000, b'"\\ud800"', b'{"a": ', b"\xe2\x80\xa8", b"- ", b": "),
    *(b"<|endoftext|>", b"\x1f\x8b", b"PK\3\4", b"\x0c", b"!!python/object:os.system ls", b"2001-99-99", b"true"),
    *(b"[]", b"&a [*a]", b"[" * 2000),
]
ODD_STRINGS = ["", " ", "\0", "\ud800", "\u2028", "system", "e\u0301" * 99]
ODD_VALUES = st.one_of(
    st.sampled_from([None, True, 0, -1, 2.5, 10**4000, 1e999, *ODD_STRINGS]),
    st.recursive(
        st.text(max_size=3) | st.integers(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=4,
    ),
)


@st.composite
def corrupted(draw: st.DrawFn, content: bytes) -> bytes:
    """Draw one to four changes of a file's bytes, or odd values for some in its records."""
    if content.startswith((b"{", b"[")) and draw(st.booleans()):
        return draw(odd_records(content))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = draw(st.integers(start, min(len(content), start + draw(st.sampled_from([1, 8, 10**6])))))
        kind = draw(st.sampled_from(["cut", "remove", "insert", "replace", "repeat", "flip"]))
        if kind == "cut":
            content = content[:start]
        elif kind == "flip":
            content = content[:start] + bytes(byte ^ 0x80 for byte in content[start:end]) + content[end:]
        elif kind == "repeat":
            content = content[:end] + content[start:end] + content[end:]
        else:
            new = b"" if kind == "remove" else draw(st.sampled_from(SNIPPETS))
            content = content[:start] + new + (content[start:] if kind == "insert" else content[end:])
    return content


@st.composite
def odd_records(draw: st.DrawFn, content: bytes) -> bytes:
    """Replace values in records of a .json or .jsonl file."""
    is_list = content.startswith(b"[")
    records = json.loads(content) if is_list else [json.loads(line) for line in content.splitlines()]
    for _ in range(draw(st.integers(1, 3))):
        node: Any = records
        while node and isinstance(node, dict | list):
            key = draw(st.sampled_from(list(node) if isinstance(node, dict) else range(len(node))))
            if not (node[key] and isinstance(node[key], dict | list)) or draw(st.integers(0, 3)) == 0:
                node[key] = draw(ODD_VALUES)
                break
            node = node[key]
    return json.dumps(records).encode() if is_list else as_lines(*records)


@pytest.fixture(scope="module", autouse=True)
def _conf() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


@contextmanager
def only_sentences() -> Iterator[None]:
    """Let an error pass that is one sentence for the user."""
    try:
        yield
    except (ValueError, OSError) as error:
        if not is_users(error):
            raise
        sentence = str(error)
        assert not sentence or sentence.isprintable(), sentence
        assert len(sentence) < LONGEST_SENTENCE, sentence


def check(kind: str, folder: Path, n_files: int) -> None:
    """Prepare this many corrupted files, after the whole one."""
    name, whole, overrides = KINDS[kind]
    cfg = json.loads(composed((*overrides[:1], "data.path=''", *overrides[1:])))
    number = itertools.count()

    def prepare_file(content: bytes) -> None:
        path = folder / str(next(number)) / name  # a new path each time, for a cache knows a file by its time
        path.parent.mkdir()
        path.write_bytes(content)
        inside = "#a.jsonl" if name.endswith(".zip") else ""
        prepare(cfg | {"data": cfg["data"] | {"path": f"{path}{inside}", "cache_dir": str(path.parent / "cache")}})

    @settings(max_examples=n_files, deadline=None, database=None, derandomize=True, suppress_health_check=HEALTH)
    @given(content=corrupted(whole))
    def each(content: bytes) -> None:
        with only_sentences():
            prepare_file(content)

    prepare_file(whole)
    each()


@pytest.mark.parametrize("n_files", [FEW, pytest.param(MANY, marks=pytest.mark.slow)], ids=["few", "many"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_corrupted_file_is_prepared_or_refused(kind: str, n_files: int, tmp_path: Path) -> None:
    check(kind, tmp_path, n_files)


PATH_PARTS = [
    *(
        "http://",
        "https://",
        "HTTP://",
        "package://",
        "file://",
        "s3://",
        "~",
        "~root",
        "/",
        "//",
        "..",
        ".",
        "*",
        "**",
    ),
    *("[", "]", "[!", "?", "#", ".zip#", ".txt", ".gz", "%00", "%", ":", "@", "a", "é", "\0", "\n", "\u2028", "\ud800"),
    *(" ", "\\", "$HOME", "{a,b}", "99999", "-1", "[::1", "localhost", "gptlab", "__main__", "xn--", "x" * 300),
]


@pytest.mark.parametrize("n_paths", [FEW, pytest.param(MANY, marks=pytest.mark.slow)], ids=["few", "many"])
def test_an_odd_path_names_files_or_is_refused(n_paths: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "cache").mkdir()
    monkeypatch.chdir(tmp_path)
    # a well-formed address is not fetched
    monkeypatch.setattr("gptlab.data.files.paths.download", lambda url, **_: tmp_path / "a.txt")

    @settings(max_examples=n_paths, deadline=None, database=None, derandomize=True, suppress_health_check=HEALTH)
    @given(path=st.lists(st.sampled_from(PATH_PARTS), max_size=6).map("".join))
    def each(path: str) -> None:
        if glob.has_magic(path) and path.startswith("/"):
            return  # it would search the whole disk
        with only_sentences():
            collect(path, endings=(".txt",), sha256=None, cache_dir=tmp_path / "cache", max_expansion=100)

    each()
