"""A run's row among others on TensorBoard's page of hyperparameters."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from gptlab.config.hparams import hparams_values
from gptlab.config.plain import Config
from gptlab.storage.run_folder import write_job_record
from gptlab.training.callbacks import hparams
from gptlab.training.callbacks.checkpoints import BestCheckpoint
from gptlab.training.callbacks.hparams import HParams
from gptlab.training.loggers import tensorboard
from tests.training.callbacks.test_throughput import context

VALUES = {"optim.lr": 0.01, "model.n_layers": 2, "model.bias": False, "model": "tiny"}


def message(folder: Path, tag: str) -> Any:
    content = EventAccumulator(str(folder)).Reload().SummaryMetadata(f"_hparams_/{tag}").plugin_data.content
    return getattr(HParamsPluginData.FromString(content), tag)


def validated(folder: Path, losses: dict[int, float], *, start: int = 0, complete: bool = True) -> None:
    """Show a run whose validations found these losses, step -> loss, as its callbacks are called."""
    given = context(folder, start_step=start)
    logger: Any = tensorboard(given, folder=None, by_tokens=False)
    best, row = BestCheckpoint(given), HParams(given, VALUES)
    metrics = {"val/f1": 0.5, "val/loss": 0.0}
    trainer: Any = SimpleNamespace(
        loggers=[logger],
        callbacks=[best, row],
        global_step=start,
        is_global_zero=True,
        callback_metrics=metrics,
        lightning_module=SimpleNamespace(metrics=("f1", "loss")),
        save_checkpoint=lambda *_, **__: None,
    )
    if start:
        best.best_trained = best.best = hparams.Validation(start, {"val/f1": 0.5, "val/loss": 2.0})
    row.on_train_start(trainer, None)  # type: ignore[arg-type]
    for trainer.global_step, metrics["val/loss"] in losses.items():
        best.on_validation_end(trainer, None)  # type: ignore[arg-type]
        row.on_validation_end(trainer, None)  # type: ignore[arg-type]
    if complete:
        row.on_train_end(trainer, None)  # type: ignore[arg-type]
    logger.finalize("success")


def test_a_row_has_typed_values_and_the_monitored_metric_first(tmp_path: Path) -> None:
    validated(tmp_path, {10: 3.0, 20: 2.0, 30: 2.5})
    experiment, start = message(tmp_path, "experiment"), message(tmp_path, "session_start_info")
    kinds = {info.name: api_pb2.DataType.Name(info.type).removeprefix("DATA_TYPE_") for info in experiment.hparam_infos}
    assert kinds == {"optim.lr": "FLOAT64", "model.n_layers": "FLOAT64", "model.bias": "BOOL", "model": "STRING"}
    assert (start.hparams["optim.lr"].number_value, start.hparams["model"].string_value) == (0.01, "tiny")
    assert start.hparams["model.bias"].WhichOneof("kind") == "bool_value"
    assert [info.name.tag for info in experiment.metric_infos] == ["val_best/loss", "val_best/f1"]
    assert message(tmp_path, "session_end_info").status == api_pb2.STATUS_SUCCESS
    points = EventAccumulator(str(tmp_path)).Reload().Scalars("val_best/loss")
    assert [(point.step, point.value) for point in points] == [(10, 3.0), (20, 2.0)], "the best so far, the last shown"


def test_a_run_that_did_not_end_has_a_row_too(tmp_path: Path) -> None:
    validated(tmp_path, {10: 3.0}, complete=False)
    assert message(tmp_path, "session_start_info").hparams
    with pytest.raises(KeyError):
        message(tmp_path, "session_end_info")


def test_a_resumed_run_goes_on_with_its_row(tmp_path: Path) -> None:
    """What it has shown is not shown again, and its best validation stays that of the first part."""
    validated(tmp_path, {10: 3.0, 20: 2.0}, complete=False)
    validated(tmp_path, {30: 2.5, 40: 2.1}, start=20)
    points = EventAccumulator(str(tmp_path)).Reload().Scalars("val_best/loss")
    assert [(point.step, point.value) for point in points] == [(10, 3.0), (20, 2.0)]
    assert message(tmp_path, "session_end_info").status == api_pb2.STATUS_SUCCESS


def test_the_validation_of_the_initial_weights_is_no_row(tmp_path: Path) -> None:
    validated(tmp_path, {0: 1.0}, complete=False)
    assert not list(tmp_path.glob("events*")) or not EventAccumulator(str(tmp_path)).Reload().Tags()["scalars"]


def test_a_null_is_a_value_of_a_sweep(tmp_path: Path) -> None:
    """The page takes its columns from any one job, so every job has all of them."""
    varies = {
        "optim.lr": "1e-2",
        "trainer.gradient_clip_val": "null",
        "model": "tiny",
        "callbacks.progress.metrics": "[loss]",
    }
    write_job_record(tmp_path, {"job": 0, "status": "running", "overrides": [], "varies": varies})
    cfg = Config(
        {
            "output_dir": str(tmp_path),
            "optim": {"lr": 0.01},
            "trainer": {"gradient_clip_val": None},
            "model": {"n_layers": 2},
            "callbacks": {"progress": {"metrics": ["loss"]}},
        }
    )
    wanted = {
        "optim.lr": 0.01,
        "trainer.gradient_clip_val": "null",
        "model": "tiny",
        "callbacks.progress.metrics": "[loss]",
    }
    assert hparams_values(cfg, {}) == wanted
    typed = {"optim.lr": 0.01, "trainer.gradient_clip_val": None, "callbacks.progress.metrics": ["loss"]}
    write_job_record(tmp_path, {"job": 0, "status": "running", "overrides": [], "varies": typed})
    assert hparams_values(cfg, {})["trainer.gradient_clip_val"] == "null"
    assert hparams_values(cfg, {})["callbacks.progress.metrics"] == '["loss"]'
