"""Every argument of Lightning's Trainer is honoured or refused with a reason."""

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import ModelSummary
from lightning.pytorch.profilers import AdvancedProfiler, SimpleProfiler
from lightning.pytorch.strategies import DDPStrategy

from gptlab.config.check import check
from gptlab.config.compose import ConfigError, compose_config
from gptlab.config.rules import REFUSED
from gptlab.training.callbacks.checkpoints import LastCheckpoint
from gptlab.training.callbacks.signals import StopOnTime
from gptlab.training.checkpoint import CheckpointFiles
from gptlab.training.planning.settings import Plan, TrainerSettings, make_plan
from gptlab.training.trainer import TrainerParts, build_trainer
from tests.conftest import ROOT

# argument -> where a test holds it to what it says; "here" is this file
HONOURED = {
    "accelerator": "tests/hardware/test_precision.py",
    "devices": "tests/story/test_resume_matrix.py",
    "num_nodes": "here: passed on, and counted among the devices",
    "strategy": "here",
    "precision": "tests/hardware/test_precision.py",
    "max_steps": "tests/training/test_module.py",
    "max_epochs": "tests/training/test_module.py",
    "max_time": "tests/training/test_module.py",
    "min_steps": "here: Lightning's own",
    "min_epochs": "here: as steps, because a run is one epoch to Lightning",
    "limit_train_batches": "here and tests/data/test_samplers.py",
    "limit_val_batches": "here: Lightning's own",
    "val_check_interval": "here and tests/training/test_module.py",
    "check_val_every_n_epoch": "here",
    "accumulate_grad_batches": "tests/training/test_module.py",
    "gradient_clip_val": "tests/training/test_module.py",
    "gradient_clip_algorithm": "tests/training/test_module.py",
    "log_every_n_steps": "tests/training/callbacks/test_throughput.py",
    "deterministic": "here: passed on",
    "benchmark": "here: passed on",
    "detect_anomaly": "here: passed on",
    "sync_batchnorm": "here: passed on",
    "profiler": "here",
    "enable_checkpointing": "here",
    "enable_progress_bar": "here",
    "enable_model_summary": "here",
}
PLAN = Plan(n_batches=20, n_steps=10, epoch_rows=8, steps_per_epoch=4, val_interval=5, val_batches=3)


def defaults() -> dict[str, Any]:
    """Return the node of conf/trainer/default.yaml."""
    return yaml.safe_load((ROOT / "conf/trainer/default.yaml").read_text(encoding="utf-8"))


def trainer_settings(**changes: Any) -> TrainerSettings:
    """Return the settings of conf/trainer/default.yaml, on the CPU, with changes."""
    values = {name: value for name, value in defaults().items() if not name.startswith("_")}
    return TrainerSettings(**{**values, "accelerator": "cpu", "precision": "32-true", **changes})


def trainer(*callbacks: L.Callback, plan: Plan = PLAN, **changes: Any) -> L.Trainer:
    """Return a trainer of two micro-batches a step."""
    parts = TrainerParts(list(callbacks), False, CheckpointFiles({}), plan, Path("run"))
    return build_trainer(trainer_settings(**changes), parts, accumulate_grad_batches=2)


def plan(**changes: Any) -> Plan:
    return make_plan(trainer_settings(**changes), n_rows=100, rows_at_once=1, val_batches=11, accumulate_grad_batches=4)


def test_every_argument_of_lightnings_trainer_is_accounted_for() -> None:
    arguments = set(inspect.signature(L.Trainer.__init__).parameters) - {"self"}
    refused = {key.removeprefix("trainer.") for key in REFUSED if key.startswith("trainer.")}
    assert {field.name for field in dataclasses.fields(TrainerSettings)} == set(HONOURED)
    assert arguments == set(HONOURED) | refused
    assert not set(HONOURED) & refused


def test_refused_arguments_are_reported_all_at_once_with_the_others() -> None:
    given = {key.removeprefix("trainer."): 1 for key in REFUSED if key.startswith("trainer.")}
    wrong = {"strategy": "fsdp", "max_time": "3h", "max_stepz": 3}
    lines = check({"trainer": {**defaults(), **given, **wrong}})
    assert len(lines) == len(given) + len(wrong)
    for name in given:
        assert f"trainer.{name} cannot be given: {REFUSED[f'trainer.{name}']}; leave it out" in lines
    with pytest.raises(ConfigError) as told:
        compose_config("train", ["trainer.barebones=true", "+trainer.plugins=a", "trainer.max_stepz=3"])
    assert [line.partition(" ")[0] for line in str(told.value).splitlines()] == [
        *("trainer.barebones", "trainer.max_stepz", "trainer.plugins")
    ]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"max_time": {"weeks": 2}}, "max_time is {'weeks': 2}: it must be DD:HH:MM:SS, such as"),
        ({"min_steps": 9, "max_steps": 8}, "min_steps is 9, more than trainer.max_steps, 8"),
        ({"min_epochs": 3, "max_epochs": 2}, "min_epochs is 3, more than trainer.max_epochs, 2"),
        ({"check_val_every_n_epoch": 2}, "check_val_every_n_epoch is 2, but validations come every 55 steps"),
        ({"limit_train_batches": 0}, "limit_train_batches is 0: it must be at least 1 or more than 0 and at most 1"),
        ({"limit_val_batches": 1.5}, "limit_val_batches is 1.5: it must be at least 0 or"),
        ({"val_check_interval": 0.0}, "val_check_interval is 0.0: it must be at least 1 or"),
        ({"profiler": "pytorch"}, "profiler is 'pytorch': it must be"),
        ({"devices": -2}, "devices is -2: it must be at least 1, "),
    ],
)
def test_wrong_values_are_sentences(changes: dict[str, Any], sentence: str) -> None:
    (line,) = check({"trainer": {**defaults(), **changes}})
    assert line.startswith(f"trainer.{sentence}")


def test_limits_change_the_plan_and_are_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    whole = plan(max_steps=None, max_epochs=3, val_check_interval=None)
    assert (whole.n_batches, whole.n_steps, whole.val_interval, whole.val_batches) == (300, 75, 25, 11)
    assert not caplog.messages
    tenth = plan(max_steps=None, max_epochs=3, val_check_interval=0.5, limit_train_batches=0.1, limit_val_batches=2)
    assert tenth == Plan(30, 8, epoch_rows=10, steps_per_epoch=2, val_interval=1, val_batches=2)
    assert caplog.messages == [
        "an epoch has 10 of 100 batches: trainer.limit_train_batches=0.1",
        "a validation has 2 of 11 batches: trainer.limit_val_batches=2",
    ]
    assert plan(limit_train_batches=1).epoch_rows == 1  # a number, as in Lightning
    assert plan(limit_train_batches=1.0, limit_val_batches=0.01).epoch_rows == 100  # shares
    assert plan(limit_val_batches=0.01).val_batches == 1
    assert plan(limit_val_batches=0).val_batches == 0
    assert plan(val_check_interval=None, check_val_every_n_epoch=3).val_interval == 75


def test_arguments_reach_lightning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)  # restored afterwards
    flags: dict[str, Any] = {"benchmark": True, "detect_anomaly": True, "sync_batchnorm": True}
    steps = {"gradient_clip_algorithm": "value", "log_every_n_steps": 7, "num_nodes": 3, "strategy": "ddp"}
    made = trainer(**flags, **steps, devices=-1)
    assert torch.backends.cudnn.benchmark
    assert (made._detect_anomaly, made.log_every_n_steps, made.num_nodes) == (True, 7, 3)
    assert made.gradient_clip_algorithm == "value"
    assert made._accelerator_connector._layer_sync is not None
    assert (made.limit_val_batches, made.val_check_interval, made.max_steps) == (3, 10, 10)
    assert isinstance(made.strategy, DDPStrategy)
    assert made.world_size == 3


def test_the_least_length_is_counted_in_steps() -> None:
    assert trainer().min_steps is None
    assert trainer(min_steps=3).min_steps == 3
    assert trainer(min_steps=3, min_epochs=2).min_steps == 8


def test_parts_are_switched_on_and_off(tmp_path: Path) -> None:
    last = LastCheckpoint.__new__(LastCheckpoint)
    assert last in trainer(last).callbacks  # type: ignore[attr-defined]
    assert last not in trainer(last, enable_checkpointing=False).callbacks  # type: ignore[attr-defined]
    kinds = [type(callback) for callback in trainer(enable_model_summary=True, max_time="00:00:01:30").callbacks]  # type: ignore[attr-defined]
    assert any(issubclass(kind, ModelSummary) for kind in kinds)
    assert StopOnTime in kinds
    assert isinstance(trainer(profiler="simple").profiler, SimpleProfiler)
    assert isinstance(trainer(profiler="advanced").profiler, AdvancedProfiler)


@pytest.mark.parametrize("words", ["01:02:03:04", {"days": 1, "hours": 2, "minutes": 3, "seconds": 4}])
def test_a_time_is_read_as_lightning_reads_it(words: Any) -> None:
    assert StopOnTime(words).seconds == 93784
