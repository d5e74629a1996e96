"""Paths that commands take and write: run=last, reports, and runs that are refused."""

import shutil
from pathlib import Path

import pytest

from gptlab.commands.cli import main as gptlab
from gptlab.commands.train import main as train
from gptlab.workflows.reports import report_folder, save_report
from gptlab.workflows.run_choice import compose_with_run
from tests.conftest import TINY, TrainedRun

VERBS = {"generate": ["prompt=And"], "compare": []}
SLOWLY = {"chat": [], "classify": ["text=And"], "evaluate": [], "export": ["to=x"]}


@pytest.fixture
def outputs(tiny_run: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of one run, below the working directory."""
    shutil.copytree(tiny_run.folder, tmp_path / "outputs" / "tiny" / "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "outputs"


def error_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit, match="1"):
        gptlab(words)
    return capsys.readouterr().err


@pytest.mark.parametrize("verb", [*VERBS, *(pytest.param(verb, marks=pytest.mark.slow) for verb in SLOWLY)])
def test_without_a_run_each_verb_lists_those_that_there_are(
    verb: str, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = error_of([verb, *(VERBS | SLOWLY)[verb]], capsys).splitlines()
    assert told[0].startswith("run is missing: give ")
    assert told[1].split()[0] == "outputs/tiny/1"
    assert told[1].split()[4:6] == ["lm", "loss"]
    assert len(told) == 2


def test_the_last_run_is_opened_and_named(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("last", "tiny", "outputs/tiny"):
        gptlab(["generate", f"run={text}", "prompt=And the", "sampling=greedy", "sampling.max_new_tokens=2"])
        shown = capsys.readouterr()
        assert shown.out.startswith("And the")
        assert f"run={text} is outputs/tiny/1, the only run " in shown.err


def test_both_runs_of_a_comparison_are_found(outputs: Path, tiny_run: TrainedRun) -> None:
    cfg = compose_with_run("compare", [f"run=[last, {tiny_run.folder}]"])
    assert cfg.run == ["outputs/tiny/1", str(tiny_run.folder)]


def test_a_finished_run_says_so_before_anything_is_prepared(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = sorted(outputs.rglob("*"))
    told = error_of(["train", "resume=last", "output_dir=elsewhere", "data.path=nowhere.txt"], capsys).splitlines()
    assert told == [
        "output_dir=elsewhere cannot change: a run is resumed in its own folder, outputs/tiny/1; leave it out",
        "resume=outputs/tiny/1: the run has finished its 30 steps; to train it further, give resume=outputs/tiny/1 "
        "trainer.max_steps=60",
    ]
    assert sorted(outputs.rglob("*")) == files


@pytest.mark.parametrize("folder", [[], ["hydra.run.dir=there"]])
def test_a_run_that_is_refused_leaves_no_folder(
    folder: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "notes.txt").touch()
    (tmp_path / "a.csv").write_text("words,label\nhello,a\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="1"):
        train([*TINY, "head=classifier", "data=csv", "data.path=a.csv", *folder])
    assert "a.csv" in capsys.readouterr().err
    assert {path.name for path in tmp_path.rglob("*")} == {"a.csv", "there", "notes.txt"}


def test_reports_go_beside_a_run_and_else_to_the_user(
    outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (published := tmp_path / "far" / "kjv").mkdir(parents=True)
    (published / "config.json").write_text("{}", encoding="utf-8")
    stray = shutil.copy(outputs / "tiny" / "1" / "checkpoints" / "best.ckpt", tmp_path / "far" / "stray.ckpt")
    wanted = {
        "outputs/tiny/1": "outputs/tiny/1/evaluation",
        f"{outputs}/tiny/1/checkpoints/best.ckpt": f"{outputs}/tiny/1/evaluation",
        str(published): "outputs/evaluations/kjv",
        f"{published}/": "outputs/evaluations/kjv",
        str(stray): "outputs/evaluations/stray.ckpt",
        "org/name": "outputs/evaluations/org/name",
    }
    assert {path: str(report_folder(path)) for path in wanted} == wanted
    assert save_report({"loss": 1.0}, str(published), name="val") == [
        "The report is in outputs/evaluations/kjv/val.json"
    ]
    assert [path.name for path in published.iterdir()] == ["config.json"]
    monkeypatch.chdir(published)
    assert str(report_folder(".")) == "outputs/evaluations/kjv"
