"""What trains a run: its batches, LightningModule, callbacks, loggers and Trainer.

Importing Lightning takes seconds, so each function imports it itself: commands that only open a run never do.
"""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from gptlab.config.build import build, build_for
from gptlab.config.hparams import hparams_values
from gptlab.config.plain import Config
from gptlab.data.protocol import Prepared
from gptlab.data.samplers import ValSampler, rows_at_once
from gptlab.hardware.compile import choose_compile
from gptlab.hardware.precision import check_accelerator, count_devices
from gptlab.storage.run_folder import PRUNED

if TYPE_CHECKING:
    import lightning as L

    from gptlab.data.datamodule import RunDataModule
    from gptlab.training.context import RunContext
    from gptlab.training.module import GPTModule
    from gptlab.training.planning.settings import Division, Plan

log = logging.getLogger(__name__)


def plan_steps(
    cfg: Config, modules: nn.ModuleDict, prepared: Prepared, *, world_size: int
) -> tuple["Plan", "Division"]:
    """Return the run's length, and how the rows of a step are divided.

    Args:
        modules: `model` and its `head`, whose memory use decides the micro-batch size.
        world_size: devices that train.
    """
    from gptlab.training.micro_batch import choose_micro_batch
    from gptlab.training.planning.settings import Division, make_plan

    options = {key: cfg.trainer[key] for key in ("accumulate_grad_batches", "accelerator", "precision")}
    micro_batch_size, accumulation = choose_micro_batch(
        modules, prepared, resume=cfg.resume, optimizer=build(cfg.optim, "optim"), **options
    )
    shape = {"batch_size": micro_batch_size, "world_size": world_size}
    plan = make_plan(
        build(cfg.trainer, "trainer"),
        n_rows=len(prepared.train),
        rows_at_once=rows_at_once(len(prepared.train), **shape),
        val_batches=len(ValSampler(prepared.val, **shape, rank=0)),
        accumulate_grad_batches=accumulation,
    )
    return plan, Division(micro_batch_size, accumulation, world_size)


def make_batches(cfg: Config, modules: nn.ModuleDict, prepared: Prepared) -> tuple["RunDataModule", "Plan", "Division"]:
    """Return the run's batches, its length, and how the rows of a step are divided. Arguments as for `plan_steps`."""
    from gptlab.data.datamodule import RunDataModule

    check_accelerator(cfg.trainer.accelerator)
    world_size = count_devices(cfg.trainer.accelerator, cfg.trainer.devices) * cfg.trainer.num_nodes
    plan, division = plan_steps(cfg, modules, prepared, world_size=world_size)
    shape = {"batch_size": division.batch_size, "world_size": world_size}
    length = {"n_batches": plan.n_batches, "epoch_rows": plan.epoch_rows}
    return RunDataModule(prepared, **shape, **length, seed=cfg.seed), plan, division


def make_module(cfg: Config, modules: nn.ModuleDict, *, n_steps: int, frozen_names: Sequence[str]) -> "GPTModule":
    """Return the LightningModule that trains the run.

    It holds model, head, optimizer and schedule. Its training step is compiled if that pays off.

    Args:
        frozen_names: the weights that checkpoints leave out.
    """
    from gptlab.training.module import GPTModule

    schedule = partial(build(cfg.schedule, "schedule"), total_steps=n_steps)
    module = GPTModule(
        model=modules["model"],  # type: ignore[arg-type]
        head=modules["head"],
        optimizer=build(cfg.optim, "optim"),
        schedule=schedule() if isinstance(schedule.func, type) else schedule,
        frozen_names=frozen_names,
    )
    if choose_compile(cfg.compile, n_steps=n_steps):
        # generating samples stays uncompiled
        module.compute_loss = torch.compile(module.compute_loss)  # type: ignore[method-assign]
    return module


def make_trainer(
    cfg: Config, context: "RunContext", *, record: dict[str, Any], plan: "Plan", accumulation: int
) -> "L.Trainer":
    """Return the Trainer with the run's callbacks, loggers and checkpoint files.

    Callbacks run in list order: `Throughput` counts before other callbacks print its counts, and `StopOnSignal` comes
    last, so that its checkpoint holds the state of all others.

    Args:
        record: plain values that every checkpoint stores beside its tensors.
    """
    from gptlab.training.callbacks.batches import Reseed
    from gptlab.training.callbacks.early_stopping import StopHopeless
    from gptlab.training.callbacks.hparams import HParams
    from gptlab.training.callbacks.signals import StopOnSignal
    from gptlab.training.callbacks.throughput import Throughput
    from gptlab.training.callbacks.validation import FinalValidation, FiniteValidation
    from gptlab.training.checkpoint import CheckpointFiles
    from gptlab.training.trainer import TrainerParts, build_trainer

    callbacks = [
        Reseed(seed=cfg.seed),
        Throughput(log_every_n_steps=cfg.trainer.log_every_n_steps),
        FiniteValidation(context),
        FinalValidation(),
        *(build_for(context, node, "callbacks.*") for node in cfg.callbacks.values() if node is not None),
        HParams(context, hparams_values(cfg, record["choices"])),
        *([StopHopeless(context, context.is_hopeless)] if context.is_hopeless else []),
        StopOnSignal(),
    ]
    loggers = [build_for(context, node, "logger.*") for node in cfg.logger.values() if node is not None]
    parts = TrainerParts(callbacks, loggers, CheckpointFiles(record), plan, folder=Path(cfg.output_dir))
    return build_trainer(build(cfg.trainer, "trainer"), parts, accumulate_grad_batches=accumulation)


def summarise_training(cfg: Config, trainer: "L.Trainer", modules: nn.ModuleDict, prepared: Prepared) -> dict[str, Any]:
    """Return the progress of training and the final metrics, for summary.json."""
    from gptlab.evaluation.final import measure_final
    from gptlab.training.lightning_internals import forward_context
    from gptlab.training.summary import collect_progress, compare_with_start

    folder = Path(cfg.output_dir)
    progress = collect_progress(trainer, folder)
    metrics = measure_final(
        modules,
        prepared,
        wanted=cfg.final_evaluation and progress["status"] != PRUNED,  # nobody compares a hopeless run's test metrics
        folder=folder,
        val=progress["val"],
        batch_size=trainer.datamodule.identity["batch_size"],  # type: ignore[attr-defined]
        forward_context=forward_context(trainer),
    )
    summary = progress | {"resumed": cfg.resume is not None} | metrics
    if comparison := compare_with_start(summary, modules["head"].monitor):  # type: ignore[arg-type]
        summary["comparison"] = comparison
        log.warning(comparison.partition(";")[0])  # the printed summary has the rest
    return summary
