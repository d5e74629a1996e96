"""The final evaluation: what it measures, what it says, and a run without it."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from gptlab.evaluation.final import measure_final
from tests.commands.test_terminal import Terminal
from tests.support.evaluation import FP32, model_and_head, random_ids, windows_of


def measured(folder: Path, *, wanted: bool) -> dict[str, Any]:
    model, head = model_and_head()
    rows = windows_of(folder / "data", random_ids(100))
    data: Any = SimpleNamespace(train=rows, val=rows, test=rows)
    modules = nn.ModuleDict({"model": model, "head": head})
    given: dict[str, Any] = {"folder": folder, "batch_size": 5, "forward_context": FP32}
    return measure_final(modules, data, wanted=wanted, val={"val/loss": 1.0}, **given)


def test_it_has_a_bar_and_says_what_it_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with caplog.at_level("INFO"):
        metrics = measured(tmp_path, wanted=True)
    assert metrics["val"] == {"val/loss": 1.0}
    assert metrics["test_of"] == "final"
    assert metrics["train"]["train/loss"] == pytest.approx(metrics["test"]["test/loss"])  # the same rows
    assert "Final evaluation: train" in terminal.getvalue()
    assert "13/13 rows" in terminal.getvalue()
    [said] = caplog.messages
    assert said == "measuring 13 training rows and 13 test rows (final_evaluation=false leaves it out)"


def test_it_can_be_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        assert measured(tmp_path, wanted=False) == {"train": {}, "val": {"val/loss": 1.0}}
    assert not caplog.messages
