"""The index of a corpus, and when it is read from the cache."""

import logging
import os
from pathlib import Path

import pytest

from gptlab.data.text.cleaning import Step
from gptlab.data.text.index import CorpusIndex
from tests.support.data import ByteTokenizer, CountingReader, plain_reader, text_data


def look(path: Path, cache: Path, **changes: object) -> CorpusIndex:
    return text_data(path, cache, **changes).text.index


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for name, text in {"a": "One  \r\n", "b": "Two", "c": "Two", "d": "Fünf", "e": ""}.items():
        (folder / f"{name}.txt").write_bytes(text.encode())
    return folder


def test_every_step_of_cleaning_is_counted(folder: Path, tmp_path: Path) -> None:
    index = look(folder, tmp_path / "cache", clean=["newlines", "trailing_spaces", "duplicates", "min_length:4"])
    assert index.steps == [
        Step("newlines", 5, 5, 17, 16),
        Step("trailing_spaces", 5, 5, 16, 14),
        Step("empty", 5, 4, 14, 14),
        Step("duplicates", 4, 3, 14, 11),
        Step("min_length", 3, 2, 11, 8),
    ]
    assert index.kept.tolist() == [True, False, False, True, False]
    assert index.n_characters.tolist() == [4, 3, 3, 4, 0]
    assert index.n_bytes.tolist() == [4, 3, 3, 5, 0]
    assert index.first_names == ["a.txt", "b.txt", "c.txt", "d.txt", "e.txt"]


def test_unchanged_files_are_not_read_again(folder: Path, tmp_path: Path) -> None:
    reader = CountingReader(field="text", separator=None)
    look(folder, tmp_path / "cache", reader=reader)
    assert reader.n_reads == 5
    look(folder, tmp_path / "cache", reader=reader)
    assert reader.n_reads == 5
    look(folder, tmp_path / "cache", reader=reader, clean=["nfc"])
    assert reader.n_reads == 10


def test_a_changed_file_is_named(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = look(folder, tmp_path / "cache")
    (folder / "b.txt").write_text("Owt")
    with caplog.at_level(logging.INFO):
        after = look(folder, tmp_path / "cache")
    assert f"reading the text again: {folder / 'b.txt'} changed" in caplog.text
    assert "a.txt" not in caplog.text
    assert (before.digests != after.digests).tolist() == [False, True, False, False, False]


def test_a_file_with_another_modification_time_is_read_again(folder: Path, tmp_path: Path) -> None:
    reader = CountingReader(field="text", separator=None)
    look(folder, tmp_path / "cache", reader=reader)
    os.utime(folder / "b.txt", ns=(1, 1))
    look(folder, tmp_path / "cache", reader=reader)
    assert reader.n_reads == 10


def test_a_damaged_index_is_rebuilt(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = look(folder, tmp_path / "cache")
    [path] = (tmp_path / "cache" / "indexes").glob("*.npz")
    path.write_bytes(path.read_bytes()[:-100])
    after = look(folder, tmp_path / "cache")
    assert "is damaged" in caplog.text
    assert (after.digests == before.digests).all()
    caplog.clear()
    look(folder, tmp_path / "cache")
    assert not caplog.text


class WritingReader(CountingReader):
    """A reader whose file changes during reading."""

    def read(self, file, faults):  # type: ignore[no-untyped-def]
        for chunk in super().read(file, faults):
            with file.path.open("a") as handle:
                handle.write("more")
            yield chunk


def test_a_file_that_changes_during_reading_is_reported(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.txt changed while it was being read: run again once nothing writes"):
        look(folder, tmp_path / "cache", reader=WritingReader(field="text", separator=None))


def test_a_file_that_changes_between_passes_is_reported(folder: Path, tmp_path: Path) -> None:
    text = text_data(folder, tmp_path / "cache").training_text()
    (folder / "d.txt").write_text("Sechs")
    with pytest.raises(ValueError, match=r"d\.txt changed while it was being read"):
        list(text)


@pytest.mark.parametrize("content", [b"\n\n", b"\x01\x02"])
def test_an_empty_text_after_cleaning_is_reported(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(ValueError, match=r"there is no text left in .*a\.txt after cleaning \(1 documents before\)"):
        look(tmp_path / "a.txt", tmp_path / "cache", clean=["control_characters", "min_length=5"])


def test_what_was_left_out_and_noticed_is_said_again_from_the_cache(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.jsonl").write_text(f'{{"text": "a</s>b{"c" * 99}"}}\n' * 3 + "{}\n")
    (folder / "b.jsonl").write_text(f'{{"text": "{"d" * 99}"}}\n')
    said = []
    for reader in (CountingReader(field="text", separator=None), CountingReader(field="text", separator=None)):
        caplog.clear()
        with caplog.at_level("INFO"):
            data = text_data(folder, tmp_path / "cache", reader=reader, on_error="skip")
            data.prepare(ByteTokenizer(eot=True), context_length=8)
        said.append([line for line in caplog.messages if "wrote" not in line and "indexed" not in line])
    assert reader.n_reads == 0
    assert said[0] == said[1]
    assert [line.partition(",")[0].partition(":")[0] for line in said[0]] == [
        "left out 1 of 5 records that are malformed",
        "2 of 4 documents are copies of earlier ones",
        "the text holds </s> 3 times as plain characters",
    ]
    assert data.text.index.markers == {"</s>": 3}


def test_documents_of_blanks_are_empty(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one|\n \n|two|")
    index = look(tmp_path / "a.txt", tmp_path / "cache", reader=plain_reader(separator="|"))
    assert index.kept.tolist() == [True, False, True, False]


def test_only_the_first_of_many_names_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"text": "story {n % 10_000}"}}\n' for n in range(20_000)))
    index = look(path, tmp_path / "cache", reader=plain_reader(), clean=["duplicates"])
    assert index.kept.sum() == 10_000
    assert len(index.first_names) == 10_000
