"""Values of data.path, and the messages about wrong ones."""

import logging
import os
from pathlib import Path

import pytest

from gptlab.data.files.paths import TextFile, collect
from gptlab.data.text.readers import TextReader
from gptlab.errors import is_users


def names(path: str | list[str], tmp_path: Path) -> list[str]:
    return [file.name for file in collected(path, tmp_path)]


def collected(path: str | list[str], tmp_path: Path, sha256: str | None = None) -> list[TextFile]:
    return collect(path, endings=TextReader.endings, sha256=sha256, cache_dir=tmp_path / "cache", max_expansion=100)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.txt", "a.md", "sub/c.jsonl.gz", "sub/d.txt", "picture.png", ".git/e.txt", ".f.txt"):
        path = tmp_path / "texts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text")
    return tmp_path / "texts"


def test_a_folder_is_searched_and_sorted(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert names(str(folder), tmp_path) == ["a.md", "b.txt", "sub/c.jsonl.gz", "sub/d.txt"]
    assert "skipped 1 of 5 files" in caplog.text


def test_a_glob(folder: Path, tmp_path: Path) -> None:
    assert names(f"{folder}/*.txt", tmp_path) == ["b.txt"]
    assert names(f"{folder}/**/*.txt", tmp_path) == ["b.txt", "sub/d.txt"]


def test_a_list_keeps_its_order_and_has_each_file_once(folder: Path, tmp_path: Path) -> None:
    (folder / "sub" / "link.txt").symlink_to(folder / "b.txt")
    assert names([f"{folder}/sub/d.txt", str(folder)], tmp_path) == ["d.txt", "a.md", "b.txt", "sub/c.jsonl.gz"]


def test_the_home_folder(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    assert names("~/b.txt", tmp_path) == ["b.txt"]


def test_a_packages_file_is_found_without_an_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "somedata" / "inside"
    package.mkdir(parents=True)
    (tmp_path / "somedata" / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "a.txt").write_text("text")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert names("package://somedata/inside/*.txt", tmp_path) == ["a.txt"]
    assert names("package://somedata/inside/a.txt", tmp_path) == ["a.txt"]


def test_a_missing_package_is_reported(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r'nosuchdata is not installed; pip install "gptlab\[samples\]"'):
        collected("package://nosuchdata/a.txt", tmp_path)


def test_a_packages_file_must_have_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "somedata").mkdir()
    (tmp_path / "somedata" / "__init__.py").touch()
    (tmp_path / "somedata" / "a.txt").write_text("text")
    monkeypatch.syspath_prepend(str(tmp_path))
    right = "982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1"
    collected("package://somedata/a.txt", tmp_path, right)[0].verify()
    with pytest.raises(ValueError, match=r"a\.txt has the sha256 982d9e.*but data\.sha256 is 0000"):
        collected("package://somedata/a.txt", tmp_path, "0" * 64)[0].verify()


def test_the_hash_of_a_local_file_is_ignored(folder: Path, tmp_path: Path) -> None:
    collected(str(folder / "b.txt"), tmp_path, "0" * 64)[0].verify()


def test_one_hash_for_two_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.sha256 is the hash of one file, but data\.path names several"):
        collected(["https://a/b.txt", "package://a/b.txt"], tmp_path, "0" * 64)


@pytest.mark.parametrize(
    ("path", "error", "sentence"),
    [
        ("b.text", FileNotFoundError, r"there is no .*b\.text [(]did you mean b\.txt"),
        ("nowhere/b.txt", FileNotFoundError, r"there is no .*nor a folder .*nowhere"),
        ("picture.png", ValueError, r"picture\.png cannot be read as text: wanted a name that ends in \.txt \.md"),
        ("*.png", ValueError, r"names no file that ends in \.txt \.md"),
        ("*.zzz", ValueError, r"names no file that ends in \.txt \.md"),
        ("empty.txt", ValueError, r"empty\.txt is empty"),
        ("empty", ValueError, r"names no file that ends in"),
    ],
)
def test_wrong_paths_are_reported(
    folder: Path, tmp_path: Path, path: str, error: type[Exception], sentence: str
) -> None:
    (folder / "empty.txt").touch()
    (folder / "empty").mkdir()
    with pytest.raises(error, match=sentence):
        collected(str(folder / path), tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_reported(folder: Path, tmp_path: Path) -> None:
    (folder / "b.txt").chmod(0)
    [file] = collected(str(folder / "b.txt"), tmp_path)
    with pytest.raises(PermissionError, match=r"b\.txt cannot be read: Permission denied") as raised, file.open():
        pass
    assert is_users(raised.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_folder_is_reported_and_not_passed_over(folder: Path, tmp_path: Path) -> None:
    (folder / "more").mkdir()
    (folder / "more").chmod(0)
    with pytest.raises(OSError, match=r"the folder .*more cannot be read \(Permission denied\): allow it") as raised:
        collected(str(folder), tmp_path)
    assert is_users(raised.value)


@pytest.mark.parametrize("target", ["nowhere.txt", "c.txt"])
def test_a_link_that_leads_nowhere_is_reported(folder: Path, tmp_path: Path, target: str) -> None:
    (folder / "c.txt").unlink(missing_ok=True)
    (folder / "c.txt").symlink_to(target)
    with pytest.raises(FileNotFoundError, match=rf"c\.txt is a link that leads nowhere, to {target}: mend it"):
        collected(str(folder / "c.txt"), tmp_path)


def test_a_deleted_file_is_reported(folder: Path, tmp_path: Path) -> None:
    [file] = collected(str(folder / "b.txt"), tmp_path)
    file.path.unlink()
    with pytest.raises(FileNotFoundError, match=r"b\.txt cannot be read: No such file") as raised, file.open():
        pass
    assert is_users(raised.value)
