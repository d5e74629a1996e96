"""The time, memory and disk that a run will take."""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from gptlab.config.plain import Config
from gptlab.hardware.memory import free_memory
from gptlab.hardware.precision import choose_precision, device_type

if TYPE_CHECKING:
    from gptlab.data.datamodule import RunDataModule
    from gptlab.training.context import Steps
    from gptlab.training.estimate import Estimate
    from gptlab.training.module import GPTModule
    from gptlab.training.trainer import Plan

log = logging.getLogger(__name__)


def estimate_run(
    cfg: Config,
    module: "GPTModule",
    batches: "RunDataModule",
    plan: "Plan",
    steps: "Steps",
    *,
    accumulation: int,
    record: Mapping[str, Any],
) -> "Estimate":
    """Return the time, memory and disk that the run will take.

    A few rows are measured. The estimate is logged, with a warning if the run does not fit.
    """
    from gptlab.evaluation.final import N_TRAIN_SAMPLE
    from gptlab.training.estimate import Work, estimate_training
    from gptlab.training.measurement import measure_step

    batch_size, world_size = batches.identity["batch_size"], batches.identity["world_size"]
    callbacks = {node["_target_"].rpartition(".")[2]: node for node in cfg.callbacks.values() if node is not None}
    averages = "AverageWeights" in callbacks and callbacks["AverageWeights"]["decay"] is not None
    work = Work(
        n_steps=steps.total - steps.first,
        batch_size=batch_size,
        accumulation=accumulation,
        world_size=world_size,
        n_validations=plan.n_validations(steps.first) + (steps.start is not None),
        n_val_rows=plan.val_batches * batch_size * world_size,
        n_final_rows=N_TRAIN_SAMPLE if cfg.final_evaluation else 0,
    )
    accelerator, n_rows = cfg.trainer.accelerator, work.n_steps * accumulation * batch_size
    device = torch.device(device_type(accelerator))
    place: dict[str, Any] = {"device": device, "precision": choose_precision(cfg.trainer.precision, accelerator)}
    modules = nn.ModuleDict({"model": module.model, "head": module.head})
    measured = measure_step(modules, batches.data.train, batch_size=batch_size, n_rows=n_rows, **place)
    files = {"best": "BestCheckpoint", "last": "LastCheckpoint"}
    written = [name for name, kind in files.items() if kind in callbacks and cfg.trainer.enable_checkpointing]
    estimate = estimate_training(
        module, batches.data, work, measured, record=record, checkpoints=written, averages=averages, **place
    )
    _log_estimate(estimate, Path(cfg.output_dir), device)
    return estimate


def _log_estimate(estimate: "Estimate", folder: Path, device: torch.device) -> None:
    log.info(estimate.summary_line())
    replaced = sum(path.stat().st_size for path in (folder / "checkpoints").glob("*.ckpt"))
    free_disk = shutil.disk_usage(folder).free + replaced
    for warning in estimate.warnings(free_memory=free_memory(device), free_disk=free_disk):
        log.warning(warning)
