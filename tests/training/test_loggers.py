"""Loggers of a resumed run: each step once, and nothing lost."""

import csv
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator as ServedAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.util.tensor_util import make_ndarray

from gptlab.storage.curves import read_curves
from gptlab.training.loggers import CSVFile, begin_by_tokens, show_by_tokens, tensorboard
from tests.training.callbacks.test_throughput import context

TAG = "train/loss"


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "csv" / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_table_has_one_row_per_step_in_any_order_of_logging(tmp_path: Path) -> None:
    logger = CSVFile(context(tmp_path), folder="csv")
    logger.log_metrics({"train/loss": 0.1 + 0.2}, 1)
    logger.log_metrics({"train/loss": 2.0}, 10)
    logger.log_metrics({"val/loss": 3.0}, 10)  # a new column, in an existing row
    logger.log_metrics({"train/loss": 1.0}, 20)
    logger.log_metrics({"val/loss": 0.5}, 20)
    assert table(tmp_path) == [
        {"step": "1", "train/loss": "0.30000000000000004", "val/loss": ""},
        {"step": "10", "train/loss": "2.0", "val/loss": "3.0"},
        {"step": "20", "train/loss": "1.0", "val/loss": "0.5"},
    ]


@pytest.mark.parametrize("start_step", [20, 25])
def test_a_resumed_table_replaces_repeated_steps(start_step: int, tmp_path: Path) -> None:
    first = CSVFile(context(tmp_path), folder="csv")
    for step in (10, 20, 30, 40):
        first.log_metrics({"train/loss": float(step)}, step)
    second = CSVFile(context(tmp_path, start_step=start_step), folder="csv")
    assert len(table(tmp_path)) == 4, "no row is deleted before a new one is logged"
    if start_step == 20:
        second.log_metrics({"val/loss": 5.0}, 20)  # the validation that the first run still owed
    for step in (30, 40, 50):
        second.log_metrics({"train/loss": step + 0.5}, step)
    assert [(row["step"], row["train/loss"]) for row in table(tmp_path)] == [
        ("10", "10.0"),
        ("20", "20.0"),
        ("30", "30.5"),
        ("40", "40.5"),
        ("50", "50.5"),
    ]
    assert table(tmp_path)[1].get("val/loss") == ("5.0" if start_step == 20 else None)


def test_tensorboard_shows_a_repeated_step_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorBoard's pages and the class for scripts read the files differently: both drop the repeated steps."""
    now = time.time()
    for start_step, offset in ((0, 0.0), (20, 0.5)):
        monkeypatch.setattr(time, "time", lambda later=start_step: now + later)  # files are ordered by the second
        logger = tensorboard(context(tmp_path, start_step=start_step), folder=None, by_tokens=False)
        for step in range(start_step + 10, 50, 10):
            logger.log_metrics({TAG: step + offset}, step)
        logger.finalize("failed")
    assert len(list((tmp_path).glob("events.out.tfevents.*"))) == 2
    for accumulator in (EventAccumulator, ServedAccumulator):
        events = accumulator(str(tmp_path)).Reload()
        assert [(e.step, value(e)) for e in curve(events)] == [(10, 10.0), (20, 20.0), (30, 30.5), (40, 40.5)]


def test_a_second_run_has_the_curves_by_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when a resumed run repeats steps; neither `read_curves` nor a chart mixes the two."""
    now = time.time()
    for start, offset in ((0, 0.0), (2000, 0.5)):
        monkeypatch.setattr(time, "time", lambda later=start: now + later)  # files are ordered by the second
        logger: Any = tensorboard(context(tmp_path, start_step=start // 100), folder=None, by_tokens=True)
        trainer: Any = SimpleNamespace(loggers=[logger])
        begin_by_tokens(trainer, start)
        for tokens in range(start + 1000, 5000, 1000):
            metrics = {"train/loss": tokens + offset, "val/loss": 1.0, "work/tokens": 1.0}
            logger.log_metrics(metrics, tokens // 100)
            show_by_tokens(trainer, metrics, tokens)
        logger.finalize("failed")
    for accumulator in (EventAccumulator, ServedAccumulator):
        events = accumulator(str(tmp_path / "by_tokens")).Reload()
        kept = [(e.step, value(e)) for e in curve(events, "train_by_tokens/loss")]
        assert kept == [(1000, 1000.0), (2000, 2000.0), (3000, 3000.5), (4000, 4000.5)]
    assert set(read_curves(tmp_path / "by_tokens")) == {"train_by_tokens/loss", "val_by_tokens/loss"}
    curves = read_curves(tmp_path)
    assert set(curves) == {"train/loss", "val/loss", "work/tokens"}
    assert curves["train/loss"].steps == [10, 20, 30, 40]


def test_without_the_switch_there_is_no_second_run(tmp_path: Path) -> None:
    logger = tensorboard(context(tmp_path), folder=None, by_tokens=False)
    trainer: Any = SimpleNamespace(loggers=[logger])
    begin_by_tokens(trainer, 0)
    show_by_tokens(trainer, {"train/loss": 1.0}, 1000)
    logger.finalize("success")
    assert not (tmp_path / "by_tokens").exists()


def test_tensorboard_names_a_run_as_its_folder(tmp_path: Path) -> None:
    """Also one that an earlier version began with its files in a folder of their own."""
    for run, folder in (("gpt/2026-11-30_02-05-17", None), ("sweeps/lr/1/0", None), ("gpt/old", "tensorboard")):
        logger = tensorboard(context(tmp_path / run), folder=folder, by_tokens=False)
        logger.log_metrics({TAG: 1.0}, 1)
        logger.finalize("success")
    assert [path.suffix for path in (tmp_path / "gpt").rglob("hparams*")] == []
    shown = EventMultiplexer().AddRunsFromDirectory(str(tmp_path)).Runs()
    assert set(shown) == {"gpt/2026-11-30_02-05-17", "sweeps/lr/1/0", "gpt/old/tensorboard"}


def curve(events: Any, tag: str = TAG) -> list[Any]:
    return events.Scalars(tag) if tag in events.Tags().get("scalars", []) else events.Tensors(tag)


def value(event: Any) -> float:
    return event.value if hasattr(event, "value") else float(make_ndarray(event.tensor_proto))
