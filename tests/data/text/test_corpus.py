"""Corpora on disk: the right ids, written once, whole or not at all."""

import errno
import json
import logging
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gptlab.data.text.corpus import SHARD_TOKENS, Corpus, open_corpus
from gptlab.data.text.shards import ShardWriter
from tests.support.data import ByteTokenizer, CodePointTokenizer, CountingReader, text_data

TEXTS = {"a.txt": "First text. ", "b.txt": "Zweiter Text: für dich!", "c.txt": "third\n" * 50}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "texts").mkdir()
    for name, text in TEXTS.items():
        (tmp_path / "texts" / name).write_text(text)
    return tmp_path / "texts"


def corpus_of(path: Path, tokenizer: Any, shard_tokens: int = SHARD_TOKENS, **changes: Any) -> Corpus:
    cache = path.parent / "cache"
    return open_corpus(text_data(path, cache, **changes).text, tokenizer, cache_dir=cache, shard_tokens=shard_tokens)


def ids_of(corpus: Corpus, split: str) -> list[int]:
    return [id_ for shard in getattr(corpus, split).shards for id_ in np.fromfile(shard.path, corpus.dtype).tolist()]


def test_each_document_is_followed_by_one_end_of_text(folder: Path) -> None:
    corpus = corpus_of(folder, ByteTokenizer(eot=True), val_documents=["b.txt"])
    assert ids_of(corpus, "train") == [*TEXTS["a.txt"].encode(), 256, *TEXTS["c.txt"].encode(), 256]
    assert ids_of(corpus, "val") == [*TEXTS["b.txt"].encode(), 256]


def test_each_document_begins_with_one_bos_id(folder: Path) -> None:
    tokenizer = ByteTokenizer(eot=True)
    tokenizer.bos_id, tokenizer.vocab_size = 257, 258
    long = "".join(f"{number} " for number in range(100_000))  # several chunks, several batches
    (folder / "d.txt").write_text(long)
    corpus = corpus_of(folder, tokenizer, val_documents=["b.txt"])
    documents = [TEXTS["a.txt"], TEXTS["c.txt"], long]
    assert ids_of(corpus, "train") == [i for text in documents for i in (257, *text.encode(), 256)]
    assert ids_of(corpus, "val") == [257, *TEXTS["b.txt"].encode(), 256]
    one = corpus_of(folder / "d.txt", tokenizer, val_fraction=0.5)
    assert bytes(ids_of(one, "train")[1:] + ids_of(one, "val")[1:]).decode() == long
    assert ids_of(one, "train")[0] == ids_of(one, "val")[0] == 257


def test_without_an_end_of_text_documents_are_adjacent(folder: Path) -> None:
    corpus = corpus_of(folder, ByteTokenizer(eot=False), val_documents=["b.txt"])
    assert ids_of(corpus, "train") == [*TEXTS["a.txt"].encode(), *TEXTS["c.txt"].encode()]


def test_one_document_is_its_plain_ids(folder: Path) -> None:
    corpus = corpus_of(folder / "c.txt", ByteTokenizer(eot=True), val_fraction=0.5)
    assert ids_of(corpus, "train") == ids_of(corpus, "val") == list(TEXTS["c.txt"][:150].encode())


def test_counts_of_each_split(folder: Path) -> None:
    corpus = corpus_of(folder, ByteTokenizer(eot=True), val_documents=["b.txt"])
    train, val = corpus.train, corpus.val
    assert (train.documents, train.characters, train.n_bytes, train.n_tokens) == (2, 312, 312, 314)
    assert (val.documents, val.characters, val.n_bytes, val.n_tokens) == (1, 23, 24, 25)


@pytest.mark.parametrize(
    ("tokenizer", "dtype"), [(ByteTokenizer(eot=True), "uint16"), (CodePointTokenizer(), "uint32")]
)
def test_the_smallest_integer_that_holds_the_vocabulary(folder: Path, tokenizer: Any, dtype: str) -> None:
    (folder / "d.txt").write_text("\U0001f642" * 10)
    corpus = corpus_of(folder, tokenizer, val_documents=["d.txt"])
    assert corpus.dtype == dtype
    assert tokenizer.encode_array("\U0001f642" * 10).tolist() == ids_of(corpus, "val")[:40]


def test_shards_hold_the_same_ids_in_order(folder: Path) -> None:
    whole = corpus_of(folder, ByteTokenizer(eot=True), val_documents=["b.txt"])
    parts = corpus_of(folder, ByteTokenizer(eot=True), shard_tokens=50, val_documents=["b.txt"])
    assert [shard.n_tokens for shard in parts.train.shards[:-1]] == [50] * (len(parts.train.shards) - 1)
    assert len(parts.train.shards) == -(-parts.train.n_tokens // 50) > 1
    assert len(parts.val.shards) == 1
    assert ids_of(parts, "train") == ids_of(whole, "train")
    assert ids_of(parts, "val") == ids_of(whole, "val")


def test_many_chunks_in_parallel_keep_their_order(tmp_path: Path) -> None:
    text = "".join(f"{number} " for number in range(300_000))
    (tmp_path / "a.txt").write_text(text)
    corpus = corpus_of(tmp_path / "a.txt", ByteTokenizer(eot=False))
    assert bytes(ids_of(corpus, "train") + ids_of(corpus, "val")).decode() == text


def test_a_second_opening_reads_and_tokenises_nothing(folder: Path) -> None:
    tokenizer, reader = ByteTokenizer(eot=True), CountingReader(field="text", separator=None)
    first = corpus_of(folder, tokenizer, reader=reader)
    calls, reads = tokenizer.n_calls, reader.n_reads
    assert corpus_of(folder, tokenizer, reader=reader) == first
    assert (tokenizer.n_calls, reader.n_reads) == (calls, reads)


def test_another_text_split_or_tokenizer_gives_another_corpus(folder: Path) -> None:
    first = corpus_of(folder, ByteTokenizer(eot=True))
    assert corpus_of(folder, ByteTokenizer(eot=False)).key != first.key
    assert (
        corpus_of(folder, ByteTokenizer(eot=True), val_documents=["b.txt"]).key
        != corpus_of(folder, ByteTokenizer(eot=True), val_documents=["c.txt"]).key
    )
    assert corpus_of(folder, ByteTokenizer(eot=True), clean=["trailing_spaces"]).key != first.key
    (folder / "a.txt").write_text("Another text")
    assert corpus_of(folder, ByteTokenizer(eot=True)).key != first.key
    (folder / "a.txt").write_text(TEXTS["a.txt"])
    assert corpus_of(folder, ByteTokenizer(eot=True)).key == first.key


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink])
@pytest.mark.parametrize("name", ["train-00000.bin", "val-00000.bin", "meta.json"])
def test_a_damaged_corpus_is_tokenised_again(
    folder: Path, caplog: pytest.LogCaptureFixture, damage: Any, name: str
) -> None:
    tokenizer = ByteTokenizer(eot=True)
    first = corpus_of(folder, tokenizer)
    ids = ids_of(first, "train"), ids_of(first, "val")
    damage(first.train.shards[0].path.parent / name)
    again = corpus_of(folder, tokenizer)
    assert "tokenising again" in caplog.text
    assert (ids_of(again, "train"), ids_of(again, "val")) == ids
    caplog.clear()
    corpus_of(folder, tokenizer)
    assert not caplog.text


def test_a_copied_cache_is_verified_and_used(folder: Path) -> None:
    tokenizer = ByteTokenizer(eot=True)
    first = corpus_of(folder, tokenizer)
    calls, path = tokenizer.n_calls, first.train.shards[0].path
    os.utime(path)
    assert corpus_of(folder, tokenizer) == first
    assert tokenizer.n_calls == calls
    assert path.stat().st_mtime_ns == first.train.shards[0].mtime_ns


def test_the_leftovers_of_a_killed_process_are_deleted(folder: Path) -> None:
    first = corpus_of(folder, ByteTokenizer(eot=True))
    done = first.train.shards[0].path.parent
    left = done.with_suffix(".part")
    left.mkdir()
    (left / "train-00007.bin").write_bytes(b"garbage")
    shutil.rmtree(done)
    assert corpus_of(folder, ByteTokenizer(eot=True)).train.n_tokens == first.train.n_tokens
    assert sorted(path.name for path in done.iterdir()) == ["meta.json", "train-00000.bin", "val-00000.bin"]
    assert not left.exists()


def test_concurrent_openings_tokenise_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "d.txt").write_text("".join(f"{number} " for number in range(200_000)))
    tokenizers = [ByteTokenizer(eot=True) for _ in range(4)]
    together, corpora = threading.Barrier(4), []

    def prepare(tokenizer: ByteTokenizer) -> None:
        together.wait()
        corpora.append(corpus_of(folder, tokenizer))

    threads = [threading.Thread(target=prepare, args=(tokenizer,)) for tokenizer in tokenizers]
    with caplog.at_level(logging.INFO):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(corpora) == 4
    assert all(corpus == corpora[0] for corpus in corpora)
    assert sum(tokenizer.n_calls > 0 for tokenizer in tokenizers) == 1
    assert "waiting for another process" in caplog.text


def test_a_full_disk_is_reported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, n_written = ShardWriter.write, 0

    def full(self: ShardWriter, ids: np.ndarray) -> None:
        nonlocal n_written
        n_written += 1
        if n_written > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, ids)

    (folder / "d.txt").write_text("x " * 500_000)
    with monkeypatch.context() as patch:
        patch.setattr(ShardWriter, "write", full)
        sentence = (
            r"corpora cannot be written, the disk is full \([\d,.]+ MB free, about 2\.0 MB needed\).*data\.cache_dir="
        )
        with pytest.raises(OSError, match=sentence):
            corpus_of(folder, ByteTokenizer(eot=True))
    corpora = folder.parent / "cache" / "corpora"
    assert [path.name for path in corpora.iterdir() if path.suffix != ".lock"] == []
    assert corpus_of(folder, ByteTokenizer(eot=True)).train.n_tokens > 500_000


def test_a_cache_folder_that_is_a_file_is_reported(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file/indexes cannot be written, a file is in its way: .*data\.cache_dir="):
        text_data(folder, tmp_path / "file").training_text()


def test_an_id_outside_the_vocabulary_is_an_assertion_error(folder: Path) -> None:
    tokenizer = ByteTokenizer(eot=False)
    tokenizer.vocab_size = 100
    with pytest.raises(AssertionError, match="ids outside its vocabulary"):
        corpus_of(folder, tokenizer)


def test_the_files_hold_only_ids(folder: Path) -> None:
    corpus = corpus_of(folder, ByteTokenizer(eot=True))
    path = corpus.train.shards[0].path
    assert path.stat().st_size == 2 * corpus.train.n_tokens
    assert json.loads((path.parent / "meta.json").read_text())["dtype"] == "uint16"
