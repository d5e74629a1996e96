"""Assembly of what trains a run: its batches, LightningModule, callbacks, loggers and Trainer.

Importing Lightning takes seconds, so each function imports it itself: commands that only open a run never do.
"""

import logging
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from gptlab.config.build import build, build_for
from gptlab.config.command import command_line
from gptlab.config.compose import compose_config
from gptlab.config.hparams import hparams_values
from gptlab.config.plain import Config, to_yaml
from gptlab.config.pretrained import row_length
from gptlab.data.protocol import EvaluationRequest, Prepared
from gptlab.data.samplers import ValSampler, rows_at_once
from gptlab.data.text.split import ALL
from gptlab.generation.generator import TextGenerator
from gptlab.generation.sampling import nth_seed
from gptlab.hardware.compile import choose_compile
from gptlab.hardware.memory import free_memory
from gptlab.hardware.precision import ForwardContext, check_accelerator, choose_precision, count_devices, device_type
from gptlab.heads.protocol import TokenHead

if TYPE_CHECKING:
    import lightning as L

    from gptlab.data.datamodule import RunDataModule
    from gptlab.training.context import RunContext, Steps
    from gptlab.training.estimate import Estimate
    from gptlab.training.module import GPTModule
    from gptlab.training.trainer import Plan

log = logging.getLogger(__name__)

TEXT_BATCH_TOKENS = 4096  # of a second text, scored at a time during training


def make_batches(cfg: Config, modules: nn.ModuleDict, prepared: Prepared) -> tuple["RunDataModule", "Plan", int]:
    """Return the run's batches, its plan, and the micro-batches per step.

    Args:
        modules: `model` and its `head`, whose memory use decides the micro-batch size.
    """
    from gptlab.data.datamodule import RunDataModule
    from gptlab.training.micro_batch import choose_micro_batch
    from gptlab.training.trainer import make_plan

    check_accelerator(cfg.trainer.accelerator)
    options = {key: cfg.trainer[key] for key in ("accumulate_grad_batches", "accelerator", "precision")}
    micro_batch_size, accumulation = choose_micro_batch(
        modules, prepared, resume=cfg.resume, optimizer=build(cfg.optim, "optim"), **options
    )
    settings = build(cfg.trainer, "trainer")
    world_size = count_devices(settings.accelerator, settings.devices) * settings.num_nodes
    shape = {"batch_size": micro_batch_size, "world_size": world_size}
    plan = make_plan(
        settings,
        n_rows=len(prepared.train),
        rows_at_once=rows_at_once(len(prepared.train), **shape),
        val_batches=len(ValSampler(prepared.val, **shape, rank=0)),
        accumulate_grad_batches=accumulation,
    )
    length = {"n_batches": plan.n_batches, "epoch_rows": plan.epoch_rows}
    batches = RunDataModule(prepared, **shape, **length, seed=cfg.seed)
    return batches, plan, accumulation


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
    """Return the time, memory and disk that the run will take, measured on a few rows.

    They are logged, with a warning if the run does not fit.
    """
    from gptlab.evaluation.final import N_TRAIN_SAMPLE
    from gptlab.training.estimate import Work, estimate_training
    from gptlab.training.measurement import measure_step

    batch_size, world_size = batches.identity["batch_size"], batches.identity["world_size"]
    parts = {node["_target_"].rpartition(".")[2]: node for node in cfg.callbacks.values() if node is not None}
    averages = "AverageWeights" in parts and parts["AverageWeights"]["decay"] is not None
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
    place: dict[str, Any] = {"device": torch.device(device_type(accelerator))}
    place |= {"precision": choose_precision(cfg.trainer.precision, accelerator)}
    modules = nn.ModuleDict({"model": module.model, "head": module.head})
    measured = measure_step(modules, batches.data.train, batch_size=batch_size, n_rows=n_rows, **place)
    files = {"best": "BestCheckpoint", "last": "LastCheckpoint"}
    written = [name for name, kind in files.items() if kind in parts and cfg.trainer.enable_checkpointing]
    estimate = estimate_training(
        module, batches.data, work, measured, record=record, checkpoints=written, averages=averages, **place
    )
    _log_estimate(estimate, Path(cfg.output_dir), place["device"])
    return estimate


def _log_estimate(estimate: "Estimate", folder: Path, device: torch.device) -> None:
    log.info(estimate.summary_line())
    replaced = sum(path.stat().st_size for path in (folder / "checkpoints").glob("*.ckpt"))
    free_disk = shutil.disk_usage(folder).free + replaced
    for warning in estimate.warnings(free_memory=free_memory(device), free_disk=free_disk):
        log.warning(warning)


def make_context(
    cfg: Config,
    prepared: Prepared,
    text_generator: TextGenerator,
    labels: Collection[str],
    steps: "Steps",
    estimate: "Estimate",
) -> "RunContext":
    """Return the facts and functions that callbacks and loggers use."""
    from gptlab.evaluation.probes.runner import ProbeRunner
    from gptlab.training.context import RunContext

    model, tokenizer = text_generator.model, text_generator.tokenizer
    head: Any = text_generator.head  # a Head that is an nn.Module: Python has no type for both
    answers = isinstance(head, TokenHead) and next(prepared.held_out(), None) is not None
    return RunContext(
        folder=Path(cfg.output_dir),
        monitor=head.monitor,
        total_steps=steps.total,
        start_step=steps.first,
        start=steps.start,
        write_samples=partial(write_samples, text_generator, prepared),
        run_probes=ProbeRunner(model, head, tokenizer, prepared.held_out, seed=cfg.seed) if answers else None,
        read_text=partial(read_text, text_generator, cfg) if isinstance(head, TokenHead) else None,
        labels=tuple(labels),
        decode=tokenizer.decode,
        show_row=partial(prepared.show_row, decode=tokenizer.decode),
        config=to_yaml(cfg),
        command=command_line(),
        estimate=estimate,
    )


def write_samples(text_generator: TextGenerator, prepared: Prepared, prompt: str | None) -> list[str]:
    """Return sample prompts with their continuations, during training.

    Args:
        prompt: None for the sample prompts of the data.

    Returns:
        an empty list for a head that predicts no tokens.
    """
    if not isinstance(text_generator.head, TokenHead):
        return []
    continue_ids, seed = partial(text_generator.continue_ids, changes={}), text_generator.seed
    return [  # a prompt has the same seed at each validation, so that the model makes the difference
        sample.shown + "".join(continue_ids(sample.ids, stop=sample.stop, seed=nth_seed(seed, number)))
        for number, sample in enumerate(prepared.sample_prompts(text_generator.tokenizer, prompt))
    ]


def read_text(
    text_generator: TextGenerator, cfg: Config, path: str | list[str], n_tokens: int
) -> Callable[[ForwardContext], dict[str, float]]:
    """Read a text as `data=text` does, and return the function that scores it.

    Args:
        n_tokens: the most tokens to score, in whole windows spread over the text, at least one.
    """
    from gptlab.evaluation.inference import text_metrics

    model, tokenizer = text_generator.model, text_generator.tokenizer
    token_bytes, n_row = tokenizer.token_bytes(), row_length(cfg)
    node = compose_config("evaluate", ["run=none", "data=text", "data.path=none"]).data
    request = EvaluationRequest(
        split=ALL,
        tokenizer=tokenizer,
        style=partial(build, cfg.prompt, "prompt"),
        max_tokens=model.context_length,
        context_length=n_row,
        stride=n_row,
        classes=(),
        n_answers=0,
    )
    shared = {key: cfg.data[key] for key in ("cache_dir", "max_expansion") if key in cfg.data}
    text = build({**node, **shared}, "data")
    text.files = text.files.at(path, "callbacks.forgetting.path")
    windows = text.evaluation_set(request).text.windows
    n_windows = max(1, min(len(windows), n_tokens // n_row))
    numbers = np.linspace(0, len(windows) - 1, n_windows).astype(int)

    def score(forward_context: ForwardContext) -> dict[str, float]:
        parts = np.array_split(numbers, -(-n_windows // max(1, TEXT_BATCH_TOKENS // n_row)))
        return text_metrics(
            model,
            text_generator.head,  # type: ignore[arg-type]
            (windows[part] for part in parts),
            token_bytes=token_bytes,
            forward_context=forward_context,
        )

    return score


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
        HParams(hparams_values(cfg, record["choices"])),
        *(build_for(context, node, "callbacks.*") for node in cfg.callbacks.values() if node is not None),
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
        wanted=cfg.final_evaluation,
        folder=folder,
        val=progress["val"],
        batch_size=trainer.datamodule.identity["batch_size"],  # type: ignore[attr-defined]
        forward_context=forward_context(trainer),
    )
    summary = progress | metrics
    if comparison := compare_with_start(summary, modules["head"].monitor):  # type: ignore[arg-type]
        summary["comparison"] = comparison
        log.warning(comparison.partition(";")[0])  # the printed summary has the rest
    return summary
