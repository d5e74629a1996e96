"""TextReader, and the messages about damaged files."""

import gzip
import json
from pathlib import Path

import pytest

from gptlab.data.text import readers
from tests.support.data import plain_reader, read_documents


def test_a_text_file_is_one_document_without_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_bytes(b"\xef\xbb\xbfH\xc3\xa9llo\r\n")
    assert read_documents(plain_reader(), path) == {"a.md": "Héllo\r\n"}


def test_a_separator_divides_a_text_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one<|endoftext|>two<|endoftext|>")
    documents = read_documents(plain_reader(separator="<|endoftext|>"), path)
    assert documents == {"a.txt:1": "one", "a.txt:2": "two", "a.txt:3": ""}


def test_a_jsonl_file_is_a_document_per_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('\ufeff{"story": "one", "id": 1}\n\n{"story": "t\\u00e9\\nw"}', encoding="utf-8")
    assert read_documents(plain_reader(field="story"), path) == {"a.jsonl:1": "one", "a.jsonl:3": "té\nw"}


@pytest.mark.parametrize("name", ["a.txt.gz", "a.md.gz"])
def test_gzipped_text(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress("Größe".encode()))
    assert read_documents(plain_reader(), path) == {name: "Größe"}


def test_gzipped_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "one"}\n'))
    assert read_documents(plain_reader(), path) == {"a.jsonl.gz:1": "one"}


def test_a_truncated_gzip_file_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(bytes(range(32, 127)) * 100)[:-20])
    with pytest.raises(ValueError, match=r"a\.txt\.gz is not a whole gzip file"):
        read_documents(plain_reader(), path)


def test_a_file_that_is_not_gzip_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(b"plain text")
    with pytest.raises(ValueError, match=r"a\.txt\.gz is not a whole gzip file"):
        read_documents(plain_reader(), path)


@pytest.mark.parametrize("block", [1, 2, 3, 5, 1 << 20])
@pytest.mark.parametrize(
    ("content", "line", "byte"),
    [
        (b"one\ntw\xff", 2, 6),
        ("é\né\n".encode() + b"\xe9 latin", 3, 6),
        (b"cut off \xc3", 1, 8),
        (b"\xef\xbb\xbfmark\n\x80", 2, 8),
    ],
)
def test_text_that_is_not_utf8_is_reported_with_line_and_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, line: int, byte: int, block: int
) -> None:
    monkeypatch.setattr(readers, "BLOCK_BYTES", block)
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.txt, line {line}, byte {byte}: not UTF-8"):
        read_documents(plain_reader(), path)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (b'{"text": "a"', r"line 2: not JSON \(Expecting ',' delimiter: .*\); wanted one object per line"),
        (b'["a"]', r'line 2: got list, wanted an object like {"text": ...}'),
        (b'{"txet": "a", "id": 1}', r"line 2: no field 'text'; there are txet, id"),
        (b"{}", r"line 2: no field 'text'; there are none: name one with"),
        (b'{"text": ["a"]}', r"line 2: field 'text' holds list, wanted a string"),
        (b'{"text": null}', r"line 2: field 'text' holds null, wanted a string"),
        (b'{"text": "\\ud800"}', r"line 2: field 'text' holds '\\ud800', half a character"),
        (b'{"text": "\xff"}', r"line 2, byte 24: not UTF-8 \(0xff, 'ÿ' in Windows-1252\): save the file as UTF-8"),
    ],
)
def test_a_wrong_line_is_reported(tmp_path: Path, line: bytes, sentence: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(json.dumps({"text": "a"}).encode() + b"\n" + line + b"\n")
    with pytest.raises(ValueError, match=sentence):
        read_documents(plain_reader(), path)


def test_an_empty_separator_is_refused() -> None:
    with pytest.raises(ValueError, match=r"data\.reader\.separator is empty"):
        plain_reader(separator="")
