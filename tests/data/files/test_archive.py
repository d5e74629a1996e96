"""Extraction of `data.path=ARCHIVE.zip#MEMBER`."""

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from gptlab.data.files.archive import extract_member
from gptlab.data.files.paths import TextFile, collect

BOUND: dict[str, Any] = {"expansion": 100, "expansion_key": "data.max_expansion"}
CONTENT = b"ham\thello\n"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "a+b.zip"
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("Messages", CONTENT)
        opened.writestr("folder/readme.tsv", b"read me")
    return path


def collected(path: str, tmp_path: Path) -> TextFile:
    (file,) = collect(path, endings=(".tsv",), sha256=None, cache_dir=tmp_path / "cache", max_expansion=100)
    return file


def test_a_member_is_found_by_its_name_with_or_without_an_ending(archive: Path, tmp_path: Path) -> None:
    file = collected(f"{archive}#Messages.tsv", tmp_path)
    assert (file.name, file.path.read_bytes()) == ("Messages.tsv", CONTENT)
    assert collected(f"{archive}#folder/readme.tsv", tmp_path).path.read_bytes() == b"read me"
    assert collected(f"{archive}#Messages.tsv", tmp_path) == file, "it is taken out once"


def test_an_archive_that_changed_is_read_again(archive: Path, tmp_path: Path) -> None:
    before = collected(f"{archive}#Messages.tsv", tmp_path)
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("Messages", b"spam\tbuy this now\n")
    assert collected(f"{archive}#Messages.tsv", tmp_path).path != before.path


def test_wrong_archives_and_members_are_reported(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no other\.tsv; there are Messages, folder/readme\.tsv"):
        collected(f"{archive}#other.tsv", tmp_path)
    with pytest.raises(ValueError, match=r"wanted a name that ends in \.tsv"):
        collected(f"{archive}#Messages", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"there is no .*none\.zip"):
        collected(f"{tmp_path}/none.zip#Messages.tsv", tmp_path)
    archive.write_bytes(archive.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"a\+b\.zip is not a whole zip file"):
        collected(f"{archive}#Messages.tsv", tmp_path)


def test_the_members_hash_is_checked(archive: Path, tmp_path: Path) -> None:
    wanted = hashlib.sha256(CONTENT).hexdigest()
    assert extract_member(archive, "Messages.tsv", sha256=wanted, folder=tmp_path, **BOUND).path.read_bytes() == CONTENT
    with pytest.raises(ValueError, match=rf"has the sha256 {wanted}, but data\.sha256 is 12ab"):
        extract_member(archive, "Messages.tsv", sha256="12ab", folder=tmp_path, **BOUND)
