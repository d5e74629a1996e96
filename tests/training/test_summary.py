"""The table at the end of a run."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from gptlab.heads.protocol import Monitor
from gptlab.training.callbacks.checkpoints import BestCheckpoint, LastCheckpoint, Validation
from gptlab.training.context import DivergedError
from gptlab.training.summary import compare_with_start, record_stop, show_summary
from tests.training.callbacks.test_throughput import context

SUMMARY: dict[str, Any] = {
    "status": "finished",
    "steps": 3,
    "folder": "outputs/a",
    "parameters": 10,
    "precision": "32-true",
    "tokens": 30,
    "seconds": 1.0,
    "tokens_per_second": 30.0,
    "total_seconds": 2.0,
    "resumed": False,
    "tensorboard": True,
    "next_command": 'gptlab classify run=outputs/a text="..."',
    "sample_prompt": "",
    "train": {"train/loss": 0.5},
    "val": {"val/loss": 1.25},
    "best": {},
    "best_step": None,
    "test": {"test/loss": 1.75},
}


@pytest.mark.parametrize(("best", "columns"), [({}, ["test, final"]), ({"val/loss": 1.0}, ["val, best", "test, best"])])
def test_the_table_names_the_tested_weights(best: dict[str, float], columns: list[str]) -> None:
    console = Console(record=True, width=120)
    show_summary(SUMMARY | {"best": best, "test_of": "best" if best else "final"}, console)
    shown = console.export_text()
    assert all(column in shown for column in columns)
    assert ("val, best" in shown) == bool(best)


@pytest.mark.parametrize(
    ("mode", "start", "best", "best_step", "final", "sentence"),
    [
        ("min", 2.0, 1.0, 5, 1.5, None),
        ("max", 0.5, 0.9, 5, 0.7, None),
        (
            "min",
            2.0,
            1.0,
            5,
            2.5,
            "the final weights are worse than those the run started from: val m 2 at the start, ",
        ),
        (
            "max",
            0.5,
            0.9,
            5,
            0.4,
            "the final weights are worse than those the run started from: val m 0.5 at the start",
        ),
        (
            "min",
            2.0,
            2.1,
            0,
            2.5,
            "the run made the model worse: val m 2 at the start, 2.1 at its best after it, 2.5 at",
        ),
        (
            "max",
            0.5,
            0.4,
            0,
            0.3,
            "the run made the model worse: val m 0.5 at the start, 0.4 at its best after it, 0.3",
        ),
        ("min", 2.0, 1.0, 5, math.nan, "the final weights are worse than those the run started from: val m 2 at the"),
        ("max", 0.5, 0.5, 0, 0.5, "the run did not improve the model: val m 0.5 at the start"),
    ],
)
def test_a_run_is_compared_with_its_start(
    mode: Any, start: float, best: float, best_step: int, final: float, sentence: str | None
) -> None:
    values = {"start": start, "best": best if best_step else start, "best_trained": best, "val": final}
    summary = {name: {"val/m": value} for name, value in values.items()}
    found = compare_with_start(
        SUMMARY | summary | {"best_step": best_step, "started_from": "hub/model"}, Monitor("val/m", mode)
    )
    assert found == sentence if sentence is None else found is not None and found.startswith(sentence)
    if best_step == 0:
        assert found is not None
        assert "its best weights are those it started from, hub/model: use them" in found


def test_a_run_without_a_final_evaluation_has_no_column_for_it() -> None:
    console = Console(record=True, width=120)
    show_summary({name: value for name, value in SUMMARY.items() if name != "test"} | {"train": {}}, console)
    assert [line for line in console.export_text().splitlines() if "┃" in line] == ["┃      ┃ val, final ┃"]


def test_a_run_that_kept_no_best_weights_is_compared_too() -> None:
    summary = SUMMARY | {"start": {"val/loss": 1.0}, "started_from": "a", "best_trained": {}}
    found = compare_with_start(summary, Monitor("val/loss", "min"))
    assert found is not None
    assert found.endswith("1.25 at the end; no others were kept")
    assert compare_with_start(SUMMARY, Monitor("val/loss", "min")) is None


def test_a_resumed_run_tells_the_time_of_all_its_parts() -> None:
    console = Console(record=True, width=60)
    more = {"seconds": 23.0, "total_seconds": 26.0, "resumed": True, "status": "out of time", "test_of": "final"}
    show_summary(SUMMARY | more | {"tensorboard": False}, console)
    shown = console.export_text()
    assert "tensorboard" not in shown  # with another logger it would find nothing
    assert "30 tokens in 23 s of training: 30 a second (26 s in all)" in shown
    assert "The time was up; resume with\n  gptlab train resume=outputs/a\n\nNext\n" in shown


def test_the_table_shows_the_start_and_what_was_best_after_it() -> None:
    console = Console(record=True, width=120)
    values = {"start": {"val/loss": 1.0}, "best": {"val/loss": 1.0}, "best_trained": {"val/loss": 1.2}}
    more = {"best_step": 0, "started_from": "hub/model", "comparison": "the run made it worse", "test_of": "final"}
    show_summary(SUMMARY | values | more, console)
    shown = console.export_text()
    assert [word.strip() for word in shown.splitlines()[2].split("┃")][3:6] == [
        "val, start",
        "val, final",
        "val, best after",
    ]
    assert "1.2 " in shown
    assert "The run made it worse" in shown
    assert "Next, with the weights that the run started from" in shown


RESUME, START = "resume with: gptlab train resume={}", "start from these weights with weights=run weights.run={}"


@pytest.mark.parametrize(
    ("files", "error", "wanted"),
    [
        ({}, RuntimeError(), "failed at step 9; nothing was saved before"),
        ({}, DivergedError("val/loss", math.nan, 9), "failed at step 9; nothing was saved before"),
        ({}, KeyboardInterrupt(), "interrupted at step 9; nothing was saved before"),
        ({"last": 9}, SystemExit(143), f"interrupted at step 9; last.ckpt holds step 9; {RESUME}"),
        (
            {"best": 4},
            OSError(28, "the disk is full"),
            "failed at step 9; best.ckpt holds step 4; without a last.ckpt it cannot be resumed",
        ),
        (
            {"last": 6, "best": 4},
            KeyboardInterrupt(),
            f"interrupted at step 9; last.ckpt holds step 6 and best.ckpt holds step 4; {RESUME}",
        ),
        ({"last": 6}, DivergedError("val/loss", math.nan, 9), f"failed at step 9; last.ckpt holds step 6; {START}"),
        ({"last": None}, RuntimeError(), f"failed at step 9; {RESUME}"),
    ],
)
@pytest.mark.parametrize("full", [False, True])
def test_the_end_of_a_run_says_what_it_has_saved_and_nothing_else(
    files: dict[str, int | None],
    error: BaseException,
    wanted: str,
    full: bool,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`last` is None for a checkpoint of an earlier attempt, if the callback that writes it was removed."""
    (tmp_path / "checkpoints").mkdir()
    if full:  # nothing can be written there
        (tmp_path / "summary.json").mkdir()
    for name in files:
        (tmp_path / "checkpoints" / f"{name}.ckpt").touch()
    best, last = (
        BestCheckpoint(context(tmp_path)),
        LastCheckpoint(context(tmp_path), every_n_train_steps=3, stable=False),
    )
    best.best, last.saved_step = Validation(files.get("best")), files.get("last") or 0
    trainer = SimpleNamespace(global_step=9, callbacks=[best, *([last] if files.get("last") else [])])
    record_stop(tmp_path, error, trainer)
    assert caplog.messages[-1] == wanted.format(tmp_path)
    if full:
        assert caplog.messages[0].startswith("summary.json cannot be written")
    else:
        assert json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))["steps"] == 9
