"""The time, memory and disk that a run will take."""

import logging
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from gptlab.config.build import build
from gptlab.config.plain import Config
from gptlab.data.protocol import Prepared
from gptlab.hardware.memory import free_memory
from gptlab.hardware.precision import choose_precision, device_type

if TYPE_CHECKING:
    from gptlab.training.context import Steps
    from gptlab.training.planning.estimate import Estimate
    from gptlab.training.planning.measurement import Measurement
    from gptlab.training.planning.settings import Division, Plan
    from gptlab.training.planning.work import Work

log = logging.getLogger(__name__)

SECONDS = 1.0  # that a run measures before its first step, at most
SHARE = 0.005  # of the run's own time, likewise


def estimate_run(
    cfg: Config,
    modules: nn.ModuleDict,
    data: Prepared,
    plan: "Plan",
    steps: "Steps",
    division: "Division",
    *,
    frozen_names: Collection[str],
    record: Mapping[str, Any],
) -> "Estimate":
    """Return the time, memory and disk that the run will take.

    A few rows are measured. The estimate is logged, with a warning if the run does not fit.
    """
    from gptlab.training.planning.measurement import Effort

    work = work_of(cfg, data, plan, steps, division)
    effort = Effort(SECONDS, SHARE, work.n_steps * work.accumulation * work.batch_size)
    measured = measure_run(cfg, modules, data, division, effort=effort, takes_steps=False)
    estimate = estimate_from(cfg, modules, data, work, measured, frozen_names=frozen_names, record=record)
    log.info(estimate.summary_line())
    for warning in estimate.warnings(free_memory=free_memory(_device(cfg)), free_disk=free_disk(Path(cfg.output_dir))):
        log.warning(warning)
    return estimate


def work_of(cfg: Config, data: Prepared, plan: "Plan", steps: "Steps", division: "Division") -> "Work":
    """Return what the run has still to do."""
    from gptlab.evaluation.final import N_TRAIN_SAMPLE
    from gptlab.training.planning.work import Work

    return Work(
        n_steps=steps.total - steps.first,
        batch_size=division.batch_size,
        accumulation=division.accumulation,
        world_size=division.world_size,
        n_validations=plan.n_validations(steps.first) + (steps.start is not None),
        n_val_rows=plan.val_batches * division.batch_size * division.world_size,
        n_final_rows=N_TRAIN_SAMPLE if cfg.final_evaluation else 0,
    )


def measure_run(
    cfg: Config, modules: nn.ModuleDict, data: Prepared, division: "Division", *, effort: Any, takes_steps: bool
) -> "Measurement":
    """Return the time and memory of the run's micro-batches.

    Args:
        effort: an `Effort`.
        takes_steps: whether the optimizer is tried too, which changes the weights.
    """
    from gptlab.training.planning.measurement import measure_step

    return measure_step(
        modules,
        data.train,
        batch_size=division.batch_size,
        effort=effort,
        device=_device(cfg),
        precision=choose_precision(cfg.trainer.precision, cfg.trainer.accelerator),
        optimizer=build(cfg.optim, "optim") if takes_steps else None,
    )


def estimate_from(
    cfg: Config,
    modules: nn.ModuleDict,
    data: Prepared,
    work: "Work",
    measured: "Measurement",
    *,
    frozen_names: Collection[str],
    record: Mapping[str, Any],
    extra_bytes: int = 0,
    sample_seconds: float = 0.0,
) -> "Estimate":
    """Return what the run will take, from a measurement.

    Args:
        extra_bytes: what the process of the run will have in memory, and this one has not.
        sample_seconds: of the samples and questions at each validation.
    """
    from gptlab.training.planning.estimate import Parts, estimate_training

    callbacks = {node["_target_"].rpartition(".")[2]: node for node in cfg.callbacks.values() if node is not None}
    files = {"best": "BestCheckpoint", "last": "LastCheckpoint"}
    written = [name for name, kind in files.items() if kind in callbacks and cfg.trainer.enable_checkpointing]
    if "last" in written and callbacks["LastCheckpoint"]["stable"]:
        written.append("stable")
    return estimate_training(
        Parts(modules, build(cfg.optim, "optim"), frozen_names),
        data,
        work,
        measured,
        device=_device(cfg),
        precision=choose_precision(cfg.trainer.precision, cfg.trainer.accelerator),
        record=record,
        checkpoints=written,
        averages="AverageWeights" in callbacks and callbacks["AverageWeights"]["decay"] is not None,
        extra_bytes=extra_bytes,
        sample_seconds=sample_seconds,
    )


def free_disk(folder: Path) -> int:
    """Return the bytes that are free for a run's checkpoints, those that it will replace included."""
    replaced = sum(path.stat().st_size for path in (folder / "checkpoints").glob("*.ckpt"))
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free + replaced


def _device(cfg: Config) -> torch.device:
    return torch.device(device_type(cfg.trainer.accelerator))
