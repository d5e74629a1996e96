"""The report of a prepared text, and the overlap of its splits."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from gptlab.data.text import contamination
from gptlab.data.text.contamination import RUN_TOKENS, shared_runs
from gptlab.data.text.shards import Shard, ShardWriter
from tests.support.data import ByteTokenizer, text_data

VECTORS = {"tok_emb": torch.arange(40.0).reshape(8, 5)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "texts").mkdir()
    for name, text in {"a": "one two three four  \n" * 9, "b": "fünf " * 50, "c": "one two three four\n" * 9}.items():
        (tmp_path / "texts" / f"{name}.txt").write_text(text)
    return tmp_path / "texts"


def test_a_description_is_plain_data(folder: Path, tmp_path: Path) -> None:
    tokenizer = ByteTokenizer(eot=True)
    text = text_data(folder, tmp_path / "cache", clean=["trailing_spaces"], val_documents=["c.txt"])
    description = text.prepare(tokenizer, context_length=8).describe(tokenizer, n_examples=3, vectors=VECTORS)
    assert json.loads(json.dumps(description)) == description
    train, val = description["splits"]["train"], description["splits"]["val"]
    assert (train["documents"], train["characters"], train["bytes"], train["tokens"]) == (2, 420, 470, 472)
    assert (val["documents"], val["characters"], val["bytes"], val["tokens"], val["windows"]) == (1, 171, 171, 172, 22)
    assert train["bytes_per_token"] == pytest.approx(470 / 472)
    assert description["held_out"] == {"documents": ["c.txt"]}
    assert description["overlap"]["documents"] == 1
    assert description["overlap"]["runs"] == 1.0
    [step] = description["cleaning"]
    assert (step["characters_before"], step["characters_after"]) == (610, 591)


def test_targets_are_shifted_by_one(folder: Path, tmp_path: Path) -> None:
    tokenizer = ByteTokenizer(eot=True)
    prepared = text_data(folder / "a.txt", tmp_path / "cache").prepare(tokenizer, context_length=8)
    description = prepared.describe(tokenizer, n_examples=3, vectors=VECTORS)
    for example in description["examples"]:
        assert example["inputs"][1:] == example["targets"][:-1]
    assert "".join(description["examples"][0]["inputs"]) == "one two "
    assert description["held_out"] == {"from_character": 170}


def test_the_rendered_report_shows_what_the_model_sees(folder: Path, tmp_path: Path) -> None:
    tokenizer = ByteTokenizer(eot=True)
    text = text_data(folder, tmp_path / "cache", clean=["trailing_spaces"], val_documents=["c.txt"])
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    prepared = text.prepare(tokenizer, context_length=8)
    console.print(prepared.render(prepared.describe(tokenizer, n_examples=3, vectors=VECTORS)))
    shown = console.export_text()
    assert "inputs   o  n  e  \u2423  t  w  o  \u2423" in shown
    assert "targets  n  e  \u2423  t  w  o  \u2423  t" in shown
    assert "Held out: c.txt." in shown
    assert "trailing_spaces" in shown
    console.file.close()


def shards_of(folder: Path, name: str, ids: list[int]) -> list[Shard]:
    with ShardWriter(folder, name, dtype="uint16", shard_tokens=None) as writer:
        writer.write(np.array(ids))
    return writer.shards


@pytest.mark.parametrize("chunk", [7, 100, 1000])
def test_shared_runs_match_a_plain_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(contamination, "BLOCK_RUNS", chunk)
    monkeypatch.setattr(contamination, "SLOT_MASK", 63)
    rng = random.Random(chunk)
    train = [rng.randrange(50000) for _ in range(300)]
    val = train[20:40] + [rng.randrange(50000) for _ in range(30)] + train[100:113] + train[5:17]
    runs = {tuple(train[i : i + RUN_TOKENS]) for i in range(len(train) - RUN_TOKENS + 1)}
    expected = sum(tuple(val[i : i + RUN_TOKENS]) in runs for i in range(len(val) - RUN_TOKENS + 1))
    assert expected == 9
    share = shared_runs(shards_of(tmp_path, "train", train), shards_of(tmp_path, "val", val), dtype="uint16")
    assert share == pytest.approx(expected / (len(val) - RUN_TOKENS + 1))


def test_many_runs_are_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contamination, "MAX_VAL_RUNS", 1000)
    rng = np.random.default_rng(0)
    train = rng.integers(50000, size=20_000).tolist()
    val = train[:10_000] + rng.integers(50000, size=30_000).tolist()
    share = shared_runs(shards_of(tmp_path, "train", train), shards_of(tmp_path, "val", val), dtype="uint16")
    assert share == pytest.approx(0.25, abs=0.01)


def test_a_text_shorter_than_a_run_has_no_share(tmp_path: Path) -> None:
    shards = shards_of(tmp_path, "val", list(range(RUN_TOKENS - 1)))
    assert shared_runs(shards, shards, dtype="uint16") is None
