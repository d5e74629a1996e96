"""Untrusted files: only regular ones of bounded size are read."""

import os
from pathlib import Path

import pytest

from gptlab.storage.excerpts import excerpt, excerpt_names
from gptlab.storage.files import expand_path, open_regular, parse_json, read_bytes, read_json, read_object, read_text


def test_a_regular_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": [1, "é"]}', encoding="utf-8")
    assert read_json(path) == {"a": [1, "é"]}
    assert read_bytes(path) == path.read_bytes()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_pipes_devices_and_folders_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises((ValueError, IsADirectoryError), match="not a regular file"):
            open_regular(path)


def test_oversized_and_non_utf8_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"\xff" * 11)
    with pytest.raises(ValueError, match="has 11 bytes, more than the 10"):
        read_bytes(path, limit=10)
    with pytest.raises(ValueError, match="not UTF-8 at byte 0"):
        read_text(path)


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5_000, "{", b"\xff"])
def test_invalid_json_is_reported(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"^x\.json, line 3: not JSON \("):
        parse_json(text, "x.json, line 3")


@pytest.mark.parametrize(("content", "sentence"), [("[]", "holds a list, wanted an object"), ("{", "not JSON")])
def test_a_json_file_without_an_object_is_reported(tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match=rf"a\.json.*{sentence}.*: fetch it again"):
        read_object(tmp_path / "a.json")


@pytest.mark.parametrize("path", ["a\0b", "a\ud800", "~nobody-of-that-name/a", "a" * 300, f"{'a' * 300}/b"])
def test_an_impossible_path_is_reported(path: str) -> None:
    with pytest.raises(ValueError, match=r"^data\.path is '"):
        expand_path(path, key="data.path")


def test_a_tilde_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    assert expand_path("~/a", key="data.path") == Path("/somewhere/a")


def test_excerpts_are_short_and_on_one_line() -> None:
    deep: list[object] = []
    for _ in range(10_000):
        deep = [deep]
    for value in (deep, "a" * 10**6, {"a": "\n" * 99}, list(range(10**6)), 10**5000):
        assert len(excerpt(value)) <= 60
        assert "\n" not in excerpt(value)
    assert excerpt_names(["a", "b\n", *map(str, range(20))]) == r"a, 'b\n', 0, 1, 2, 3, 4, 5, 6, 7, ..."
