"""A run opened in int8 shows its loss and generates text."""

import json

import pytest

from gptlab.commands import evaluate, generate
from tests.conftest import TrainedRun


def test_the_loss_of_an_int8_model_is_shown(tiny_run: TrainedRun, capsys: pytest.CaptureFixture[str]) -> None:
    losses = {}
    for precision in ("32-true", "int8"):
        evaluate.main([f"run={tiny_run.folder}", f"precision={precision}", "n_questions=0", "output=json"])
        report = json.loads(capsys.readouterr().out)
        assert report["precision"] == precision
        losses[precision] = report["metrics"]["loss"]["value"]
    assert losses["int8"] != losses["32-true"]
    assert losses["int8"] == pytest.approx(losses["32-true"], rel=1e-2)


def test_an_int8_model_generates(tiny_run: TrainedRun, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"run={tiny_run.folder}", "precision=int8", "sampling.max_new_tokens=5"]
    generate.main([*words, "prompt=And the"])
    assert capsys.readouterr().out.startswith("And the")
