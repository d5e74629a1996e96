"""`gptlab scaling` from the outside: a report, a picture, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy")

from gptlab.commands.scaling import main
from gptlab.insight.scaling.law import Law
from gptlab.storage.run_folder import write_job_record

LAW = Law(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658)
FEW = ["n_resamples=20"]


def write_table(path: Path, *, largest: float = 5e9) -> list[str]:
    """Write runs that follow a law without noise; return the words that name them."""
    grid = [(n, d) for n in np.geomspace(5e7, largest, 4) for d in np.geomspace(1e9, 1e11, 4)]
    rows = [f"{n:.0f},{d:.0f},{LAW.loss(n, d):.6f}" for n, d in grid]
    path.write_text("\n".join(["parameters,tokens,loss", *rows]), encoding="utf-8")
    return [f"points={path}", *FEW]


def test_a_table_ends_with_the_best_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = write_table(tmp_path / "runs.csv")
    main([*words, "flops=1e21"])
    shown = capsys.readouterr().out
    best = LAW.optimum(1e21)
    assert "16 points from 16 rows" in shown
    assert "Best for 1e+21 FLOPs" in shown
    report = json.loads((tmp_path / "scaling.json").read_text(encoding="utf-8"))
    assert report["optimum"]["parameters"]["value"] == pytest.approx(best.parameters, rel=0.02)
    assert report["law"]["alpha"]["value"] == pytest.approx(LAW.alpha, rel=0.01)
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")
    assert all(len(line) <= 120 for line in shown.splitlines())


def test_a_budget_that_the_runs_cannot_answer_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([*write_table(tmp_path / "runs.csv", largest=2e8), "flops=1e20"])
    shown = capsys.readouterr()
    assert end.value.code == 1
    assert "N spans a factor of 4" in shown.out
    assert "Best for" not in shown.out
    assert json.loads((tmp_path / "scaling.json").read_text(encoding="utf-8"))["optimum"] is None


def test_hours_are_at_the_speed_of_the_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes, lengths = (10**5, 10**6, 10**7), (10**6, 10**7, 10**8)
    for number, (n, tokens) in enumerate((n, d) for n in sizes for d in lengths):
        folder = tmp_path / f"{number:03}"
        folder.mkdir()
        write_job_record(folder, {"job": number, "status": "finished", "varies": {}})
        speed = {"tokens_per_second": 1e11 / 6 / n, "flops_per_token": 7 * n}  # 1e11 operations a second
        summary = {"parameters": n, "embedding_parameters": 0, "tokens": tokens, "epochs": 2.5, **speed}
        summary["val"] = {"val/loss": float(LAW.loss(n, tokens))}
        (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    main([f"run={tmp_path}", "hours=1", "output=json", *FEW])
    report = json.loads(capsys.readouterr().out)
    assert report["optimum"]["flops"] == pytest.approx(3.6e14)
    assert "1 h of training steps at 1e+11 FLOP/s" in report["budget"]
    assert any("9 of 9 runs read their text more than once, up to 2.5 times" in text for text in report["remarks"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "give the sweep to fit with run="),
        (["run=nowhere"], "run=nowhere: there is no sweep's folder"),
        (["flops=1", "hours=1", "run=a"], "are two budgets: give one"),
        (["flops=-1", "run=a"], "flops is -1"),
        (["conted=all"], "did you mean counted"),
    ],
)
def test_a_mistake_is_a_sentence(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(words)
    assert told in capsys.readouterr().err
