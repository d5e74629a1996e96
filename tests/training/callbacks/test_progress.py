"""Progress lines and the bar say what is true of the step that they name."""

import io
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import rich
from rich.console import Console

from gptlab.errors import UserError
from gptlab.training.callbacks.progress import Forecast, ProgressLines, choose_metrics
from gptlab.training.callbacks.throughput import Throughput
from tests.commands.test_terminal import Terminal
from tests.conftest import TrainedRun
from tests.training.callbacks.test_throughput import STEPS, context, watched

CLASSIFIER = ["loss", "accuracy", "balanced_accuracy", "precision", "recall", "f1", "auroc", "calibration_error"]


class Losses(L.Callback):
    """Record the loss of every step."""

    def __init__(self) -> None:
        self.by_step: dict[int, str] = {}

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        self.by_step[trainer.global_step] = f"{float(pl_module.step_loss):#.4g}"


def lines_of(tmp_path: Path, caplog: pytest.LogCaptureFixture, **trainer: Any) -> tuple[list[str], dict[int, str]]:
    losses = Losses()
    with caplog.at_level("INFO"):
        progress = ProgressLines(context(tmp_path), metrics=3, every_n_seconds=0)
        watched(Throughput(log_every_n_steps=100), losses, progress, **trainer)
    return [message for message in caplog.messages if message.startswith("step")], losses.by_step


def test_every_line_has_the_loss_of_its_own_step(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Curves are logged every 100 steps here, so that all but the first step are between two points."""
    lines, losses = lines_of(tmp_path, caplog)
    found = [re.match(r"step (\d+)/\d+ · train/loss (\S+) · (.*)$", line) for line in lines]
    assert all(found)
    assert [(int(each[1]), each[2]) for each in found if each] == [*losses.items(), (STEPS, losses[STEPS])]
    assert len(set(losses.values())) == STEPS
    *training, validation = lines
    assert all(re.search(r" · [\d,]+ tokens/s · \d:\d\d elapsed( · \d:\d\d left)?$", line) for line in training)
    assert [line.endswith("left") for line in training] == [True] * (STEPS - 1) + [False]
    assert re.search(r" · val/loss [\d.]+ · perplexity [\d.]+ · \d:\d\d elapsed$", validation)


def test_a_line_is_for_a_step_and_not_for_a_micro_batch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines, _ = lines_of(tmp_path, caplog, accumulate_grad_batches=2, max_steps=2)  # five micro-batches in an epoch
    assert [line.split()[1] for line in lines] == ["1/5", "2/5"]


def test_the_bar_has_the_loss_of_its_own_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gptlab.training.callbacks.progress.BAR_SECONDS", 0.0)
    screen = Console(file=Terminal(), width=80, color_system=None, _environ={"TERM": "xterm"})
    monkeypatch.setattr(rich, "_console", screen)
    progress, losses, seen = ProgressLines(context(tmp_path), metrics=3, every_n_seconds=0), Losses(), []

    class Read(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
            seen.append(progress.read_bar())

        def on_validation_batch_end(self, *_: Any) -> None:
            seen.append(progress.read_bar())

    watched(Throughput(log_every_n_steps=100), losses, progress, Read())
    *steps, validation, _ = seen  # the validation has two batches
    assert [(words["title"], words["count"]) for _, words in steps] == [
        (f"step {step}/{STEPS}", f"loss {loss}") for step, loss in losses.by_step.items()
    ]
    assert (validation[1]["title"], validation[1]["count"]) == (f"step {STEPS}/{STEPS}", "validating 1/2")
    assert isinstance(screen.file, io.StringIO)
    assert f"step {STEPS}/{STEPS}" in screen.file.getvalue()


def test_the_log_has_a_short_line_for_each_validation(tiny_run: TrainedRun) -> None:
    log = (tiny_run.folder / "train.log").read_text(encoding="utf-8")
    lines = re.findall(r"step \d+/30 .* val/.*", log)  # on a slow machine other lines come between them
    assert [line.split()[1] for line in lines] == ["10/30", "20/30", "30/30"]
    for line in lines:
        assert re.search(r" train/loss [\d.]+ · val/loss [\d.]+ · .* bits_per_byte [\d.]+ · \d+:\d\d elapsed", line)
        assert len(line) <= 120


def test_a_line_has_the_metrics_that_matter_or_were_asked_for() -> None:
    assert choose_metrics(3, CLASSIFIER, "val/loss") == ["val/loss", "val/accuracy", "val/balanced_accuracy"]
    assert choose_metrics(["f1"], CLASSIFIER, "val/loss") == ["val/f1", "val/loss"]
    with pytest.raises(UserError, match=r"names f2, but the head's metrics are loss, accuracy, .*: name some of them"):
        choose_metrics(["f1", "f2"], CLASSIFIER, "val/loss")


def test_the_time_left_counts_validations_and_the_final_evaluation(tmp_path: Path) -> None:
    estimate = context(tmp_path).estimate._replace(
        step_tokens=100, tokens_per_second=100.0, validation_seconds=7.0, final_seconds=50.0
    )
    forecast = Forecast(estimate, start_step=10, total_steps=110, validate_every=25)
    at: Any = SimpleNamespace(left=lambda step, **now: forecast.seconds_left(step, **now))
    assert at.left(10, trained=0.0, elapsed=0.0, n_validations=0) == 100 * 1.0 + 5 * 7.0 + 50.0  # as estimated
    assert at.left(11, trained=60.0, elapsed=60.0, n_validations=0) == 99 * 1.0 + 5 * 7.0 + 50.0  # the first compiles
    assert at.left(21, trained=80.0, elapsed=80.0, n_validations=0) == 89 * 2.0 + 5 * 7.0 + 50.0  # as measured
    # two validations with their samples have taken 30 s
    assert at.left(51, trained=140.0, elapsed=170.0, n_validations=2) == 59 * 2.0 + 3 * 15.0 + 50.0
