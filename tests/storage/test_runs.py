"""The runs below a folder: which is the newest, and which one a name stands for."""

import json
import os
from pathlib import Path

import pytest

from gptlab.errors import MissingFileError, UserError
from gptlab.storage.runs import choose_run, find_runs, missing_run

OUTPUTS = Path("outputs")
SUMMARY = {"status": "finished", "task": "lm", "monitor": "val/loss", "val": {"val/last_word": 0.1, "val/loss": 3.25}}


@pytest.fixture(autouse=True)
def _runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write runs of two names, a sweep's job and a run that was resumed later than all others."""
    monkeypatch.chdir(tmp_path)
    for minute, name in enumerate(("gpt/1", "gpt/2", "gpt/3", "sweeps/lr/4/0", "spam/5")):
        write_run(OUTPUTS / name, minute=minute)
    config = OUTPUTS / "gpt" / "1" / ".hydra" / "resume_1" / "config.yaml"
    config.parent.mkdir()
    config.touch()
    os.utime(config, (9999, 9999))
    (OUTPUTS / "gpt" / "6" / ".hydra").mkdir(parents=True)  # it saved no checkpoint


def write_run(folder: Path, *, minute: int, **summary: object) -> None:
    for path in (folder / "checkpoints" / "last.ckpt", folder / ".hydra" / "config.yaml"):
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (60 * minute, 60 * minute))
    (folder / "summary.json").write_text(json.dumps({**SUMMARY, "best": {}, **summary}), encoding="utf-8")


def chosen(text: str) -> str:
    return choose_run(text, lambda: OUTPUTS).path


def test_the_newest_run_is_the_last_that_was_started_or_resumed() -> None:
    newest = [run.folder.relative_to(OUTPUTS).as_posix() for run in find_runs(OUTPUTS)]
    assert newest == ["gpt/1", "spam/5", "sweeps/lr/4/0", "gpt/3", "gpt/2"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("last", "outputs/gpt/1"),
        ("outputs", "outputs/gpt/1"),
        ("gpt", "outputs/gpt/1"),
        ("outputs/spam", "outputs/spam/5"),
        ("outputs/spam/", "outputs/spam/5"),
        ("lr", "outputs/sweeps/lr/4/0"),
        ("outputs/sweeps", "outputs/sweeps/lr/4/0"),
        ("outputs/gpt/2", "outputs/gpt/2"),
        ("3", "outputs/gpt/3"),
        ("outputs/gpt/6", "outputs/gpt/6"),  # refused later, for having no checkpoint
        ("org/name", "org/name"),  # on the hub
        ("elsewhere/run", "elsewhere/run"),
        ("outputs/gpt/2/checkpoints/last.ckpt", "outputs/gpt/2/checkpoints/last.ckpt"),
    ],
)
def test_a_text_stands_for_a_run(text: str, wanted: str) -> None:
    assert chosen(text) == wanted


def test_the_note_says_which_run_was_taken() -> None:
    note = "run=gpt is outputs/gpt/1, the newest of 3 runs named gpt below outputs"
    assert choose_run("gpt", lambda: OUTPUTS).note == note
    assert choose_run("outputs/gpt/2", lambda: OUTPUTS).note is None


def test_a_users_own_folder_of_that_name_is_no_run_but_a_model_is_taken() -> None:
    Path("gpt").mkdir()
    assert chosen("gpt") == "outputs/gpt/1"
    Path("gpt", "config.json").touch()
    assert chosen("gpt") == "gpt"
    Path("empty").mkdir()
    assert chosen("empty") == "empty"  # what it is, is said when it is opened


def test_a_name_without_runs_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(MissingFileError, match=r"run=gptt: .* no run of that name .*\(did you mean gpt\?\)"):
        chosen("gptt")
    with pytest.raises(MissingFileError, match=r"resume=outputs/nothing: .*\n  outputs/gpt/1 "):
        choose_run("outputs/nothing", lambda: OUTPUTS, key="resume")
    with pytest.raises(MissingFileError, match=r"run=last: .* no run .*`gptlab train` trains a first run"):
        choose_run("last", lambda: Path("elsewhere"))
    with pytest.raises(UserError, match=r"resume is empty: .* resume=last for the newest run"):
        choose_run("", lambda: OUTPUTS, key="resume")  # of an unset variable; it would start a new run


def test_a_missing_run_lists_the_newest() -> None:
    write_run(OUTPUTS / "new" / "7", minute=300, status="interrupted", task="\x1b[31m" * 99)
    first, *lines, more = missing_run(OUTPUTS, several=False).splitlines()
    assert first == "run is missing: give run=last for the newest run, or one of these"
    assert [line.split()[0] for line in lines] == [
        *("outputs/new/7", "outputs/gpt/1", "outputs/spam/5", "outputs/sweeps/lr/4/0", "outputs/gpt/3")
    ]
    assert lines[0].endswith("interrupted")
    assert lines[1].split()[-3:] == ["lm", "loss", "3.25"]
    assert more == "  and 1 more"
    assert missing_run(OUTPUTS, several=True).startswith("run is missing: give two or more, 'run=[A, B]'")


@pytest.mark.parametrize("text", ["[]", '{"val": 3, "best": {}}', "{}", '{"best": {"val/loss": null}, "status": []}'])
def test_any_summary_can_be_listed(text: str) -> None:
    (OUTPUTS / "gpt" / "1" / "summary.json").write_text(text, encoding="utf-8")
    assert "outputs/gpt/1" in missing_run(OUTPUTS, several=False)
