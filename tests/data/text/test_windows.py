"""Windows: the right tokens, within shards, each validation token scored once."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from gptlab.batch import IGNORE_INDEX
from gptlab.data.text.shards import Shard, ShardWriter
from gptlab.data.text.windows import Windows


def shards_of(folder: Path, n_tokens: int, shard_tokens: int | None = None, dtype: str = "uint16") -> list[Shard]:
    """Write shards of the tokens 0, 1, 2 ..., so that a token equals its place."""
    folder.mkdir(exist_ok=True)
    with ShardWriter(folder, "train", dtype=dtype, shard_tokens=shard_tokens) as writer:
        writer.write(np.arange(n_tokens))
    return writer.shards


def windows_of(shards: list[Shard], length: int, stride: int, *, tail: bool = False, dtype: str = "uint16") -> Windows:
    return Windows(shards, dtype=dtype, context_length=length, stride=stride, tail=tail)


@pytest.mark.parametrize("stride", [1, 3, 4, 7, 100])
@pytest.mark.parametrize("n_tokens", [5, 6, 8, 9, 21, 100])
def test_windows_match_the_book(tmp_path: Path, n_tokens: int, stride: int) -> None:
    """Return the windows of "Build a Large Language Model", listing 2.5.

    They begin at range(0, n_tokens - T, stride).
    """
    windows = windows_of(shards_of(tmp_path, n_tokens), 4, stride)
    starts = range(0, n_tokens - 4, stride)
    assert len(windows) == len(starts)
    batch = windows[np.arange(len(windows))]
    assert batch["ids"].tolist() == [list(range(start, start + 4)) for start in starts]
    assert torch.equal(batch["targets"], batch["ids"] + 1)


def test_a_batch_is_two_independent_int64_tensors(tmp_path: Path) -> None:
    windows = windows_of(shards_of(tmp_path, 100), 4, 4)
    batch = windows[np.array([5, 0, 5])]
    assert batch["ids"].dtype == batch["targets"].dtype == torch.int64
    batch["ids"].zero_()
    assert batch["targets"][0].tolist() == [21, 22, 23, 24]
    assert windows[np.array([5])]["ids"].tolist() == [[20, 21, 22, 23]]


@pytest.mark.parametrize("shard_tokens", [7, 20, 33, 50])
@pytest.mark.parametrize("stride", [1, 4, 5])
def test_no_window_crosses_from_shard_to_shard(tmp_path: Path, shard_tokens: int, stride: int) -> None:
    windows = windows_of(shards_of(tmp_path, 100, shard_tokens), 4, stride)
    batch = windows[np.random.default_rng(0).permutation(len(windows))]
    assert torch.equal(batch["targets"], batch["ids"] + 1)
    assert torch.equal(batch["ids"][:, 0] // shard_tokens, batch["targets"][:, -1] // shard_tokens)


def test_shards_give_the_windows_of_one_shard_except_those_across_edges(tmp_path: Path) -> None:
    one = windows_of(shards_of(tmp_path / "one", 1000), 8, 1)
    many = windows_of(shards_of(tmp_path / "many", 1000, 100), 8, 1)
    batch = one[np.arange(len(one))]
    inside = batch["ids"][:, 0] // 100 == batch["targets"][:, -1] // 100
    assert torch.equal(many[np.arange(len(many))]["ids"], batch["ids"][inside])


@pytest.mark.parametrize("n_tokens", range(2, 30))
def test_with_the_tail_every_token_but_the_first_is_scored_once(tmp_path: Path, n_tokens: int) -> None:
    windows = windows_of(shards_of(tmp_path, n_tokens), 4, 4, tail=True)
    batches = [windows[np.arange(start, min(start + 3, len(windows)))] for start in range(0, len(windows), 3)]
    ids, targets = (torch.cat([batch[key] for batch in batches]) for key in ("ids", "targets"))  # type: ignore[literal-required]
    scored = targets != IGNORE_INDEX
    assert targets[scored].tolist() == list(range(1, n_tokens))
    assert torch.equal(ids[scored] + 1, targets[scored])
    assert (ids >= 0).all()
    assert (ids < n_tokens).all()


def test_without_the_tail_only_whole_windows_are_scored(tmp_path: Path) -> None:
    windows = windows_of(shards_of(tmp_path, 534), 256, 256)
    assert (windows[np.arange(len(windows))]["targets"] != IGNORE_INDEX).sum() == 512


def test_ids_that_need_32_bits(tmp_path: Path) -> None:
    windows = windows_of(shards_of(tmp_path, 70_000, dtype="uint32"), 4, 4, dtype="uint32")
    assert windows[np.array([len(windows) - 1])]["ids"].tolist() == [[69992, 69993, 69994, 69995]]


def test_windows_pickle_as_paths(tmp_path: Path) -> None:
    windows = windows_of(shards_of(tmp_path, 60_000), 4, 4)
    before = windows[np.array([3, 1])]
    packed = pickle.dumps(windows)
    assert len(packed) < 2000
    assert torch.equal(pickle.loads(packed)[np.array([3, 1])]["ids"], before["ids"])
