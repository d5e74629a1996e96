"""The conclusion on two models: better, worse, no different, too little text, or no common measure."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from gptlab.config.compose import compose_config
from gptlab.config.hparams import hparams_values
from gptlab.evaluation.compare import ModelResult, compare, show_comparison
from gptlab.evaluation.score import Scores
from tests.support.evaluation import hard_and_easy, scores_of


def examined(name: str, scores: Scores, *, tokenizer: str = "bytes", **config: Any) -> ModelResult:
    """Return a result as `examine_model` would."""
    return ModelResult(
        name=name,
        config={key.replace("__", "."): value for key, value in config.items()},
        n_parameters=10,
        tokenizer={"kind": tokenizer},
        scores=scores,
        answers=["so"],
        read_speed=1.0,
        written_speed=1.0,
    )


def compared(*models: ModelResult) -> tuple[dict[str, Any], str]:
    """Return the report and the printed tables."""
    report = compare(models, ["And"], seed=0)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    console = Console(file=io.StringIO(), width=120)
    show_comparison(report, console)
    return report, console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("more", "n", "sentence"),
    [
        (-0.1, 4000, "B is better than A: loss -0.1"),
        (0.1, 4000, "B is worse than A: loss +0.1"),
        (0.0, 4000, "B is no different, as far as this text can tell, from A: loss +0.0000 ("),
        (-0.1, 300, "The text is too short to tell whether B is better than A: loss -0.1"),
    ],
)
def test_the_conclusion(more: float, n: int, sentence: str) -> None:
    losses = hard_and_easy(n)
    _, shown = compared(*(examined(str(x), scores_of(losses + x, length=64)) for x in (0.0, more)))
    assert sentence in shown


def test_models_without_a_common_measure_keep_their_tables() -> None:
    losses, sizes = hard_and_easy(4000), np.ones(4000)
    a = examined("run/a", scores_of(losses, sizes=sizes))
    lossy = examined("run/words", scores_of(losses), tokenizer="word")
    foreign = examined("run/other", scores_of(losses[:3000], sizes=sizes[:3000]), tokenizer="other")
    report, shown = compared(a, lossy, foreign, examined("run/b", scores_of(losses - 0.1, sizes=sizes)))
    note = "the tokenizer of run/words can lose text, so it has no bits per byte"
    assert report["models"][1]["difference"] == {
        "of": None, "value": None, "low": None, "high": None, "significant": False, "note": note
    }  # fmt: skip
    assert f"B cannot be compared with A: {note}" in shown
    assert "C cannot be compared with A: one was scored on 3,000 bytes, the other on 4,000" in shown
    assert "D is better than A" in shown
    assert "Metrics on the same text" in shown
    assert "Continuations" in shown


def test_an_infinite_perplexity_is_shown() -> None:
    a, b = (examined(str(loss), scores_of(np.full(2000, loss))) for loss in (800.0, 2.0))
    report, shown = compared(a, b)
    assert report["models"][0]["metrics"]["perplexity"]["value"] is None
    assert "│ inf " in shown
    assert "B is better than A" in shown


def test_choices_stand_before_values_and_for_their_classes() -> None:
    scores = scores_of(hard_and_easy(300))
    rest = {"seed": 1, "optim__eps": 1e-8, "head__tied": True}
    muon = examined("a", scores, optim="muon", data="kjv", **{"optim___target_": "m", "optim__lr": 0.02, **rest})
    adamw = examined("b", scores, optim="adamw", data="kjv", **{"optim___target_": "a", "optim__lr": 0.003, **rest})
    own = examined("c", scores, optim="muon", data="kjv", **{"optim___target_": "mine", "optim__lr": 0.02, **rest})
    assert list(compared(muon, adamw)[0]["config"]) == ["optim", "optim.lr"]
    assert list(compared(muon, own)[0]["config"]) == ["optim._target_"], "another class under the same choice"
    published = examined("d", scores, head__tied=False)  # it made no choices and was not trained by us
    assert list(compared(muon, published)[0]["config"]) == ["head.tied"]


def test_the_choices_of_a_run_lead_its_hyperparameters(tmp_path: Path) -> None:
    cfg = compose_config("train", [f"output_dir={tmp_path}", "optim=adamw", "data=spam", "head=classifier"])
    chosen = {"optim": "adamw", "data": "spam", "model": "mini", "experiment": "None", "hydra/help": "gptlab"}
    values = hparams_values(cfg, chosen)
    assert list(values)[:4] == ["model", "data", "optim", "model.n_layers"]
    assert values["optim.lr"] == cfg.optim.lr
