"""What a run will take, here and on named GPUs, from a probe of a few steps."""

import math
import sys
from pathlib import Path
from typing import Any

import torch

from gptlab.assembly import parts
from gptlab.assembly.estimate import estimate_from, free_disk, measure_run, work_of
from gptlab.assembly.training import plan_steps
from gptlab.errors import UserError
from gptlab.hardware.memory import MEMORY_FRACTION, free_memory
from gptlab.hardware.peak import peak_flops
from gptlab.hardware.precision import check_accelerator, count_devices, device_type
from gptlab.run import Run
from gptlab.storage.checkpoint import read_checkpoint
from gptlab.training.context import Steps
from gptlab.training.planning.elsewhere import assumptions
from gptlab.training.planning.estimate import CROWDED, Estimate
from gptlab.training.planning.measurement import Effort, Measurement
from gptlab.training.planning.settings import Division
from gptlab.training.planning.settings import Plan as Length
from gptlab.training.planning.work import Work
from gptlab.training.tuning import list_frozen
from gptlab.workflows.planning.elsewhere import flops_of_token, plan_elsewhere, precision_of
from gptlab.workflows.planning.samples import callback, question_seconds, sample_seconds

CHINCHILLA = 20  # tokens per parameter that are compute-optimal (arXiv 2203.15556)
LIBRARY_BYTES = 170_000_000  # of Lightning, torchmetrics and TensorBoard, which a run imports and a plan does not
SAMPLE_SHARE = 0.5  # of the time for measuring that samples may take beside it


def plan_run(run: Run, *, seconds: float, free_bytes: int | None = None) -> dict[str, Any]:
    """Return what a composed run will take, as plain values.

    The run's weights are changed: its optimizer is tried.

    Args:
        seconds: of measuring, at most.
        free_bytes: of memory; None for what the system reports.

    Raises:
        UserError: the run cannot be divided into steps, see `plan_steps`.
    """
    cfg, modules, notes = run.cfg, parts.modules_of(run), list[str]()
    run.model.recompute = cfg.activation_checkpointing
    world_size = _count_devices(run, notes)
    length, division = plan_steps(cfg, modules, run.data, world_size=world_size)
    steps = Steps(total=length.n_steps, first=_first_step(cfg.resume), start=run.start)
    work = work_of(cfg, run.data, length, steps, division)
    if work.n_steps < 1:
        raise UserError(f"resume={cfg.resume}: the run has trained all of its {length.n_steps:,} steps")
    at_validations = sample_seconds(run, SAMPLE_SHARE * seconds) + question_seconds(run)
    effort = Effort(seconds, math.inf, work.n_steps * work.accumulation * work.batch_size)
    measured = measure_run(cfg, modules, run.data, division, effort=effort, takes_steps=True)
    record, frozen = parts.record_of(run), list_frozen(modules) if run.tuning.partial else ()
    estimate = estimate_from(
        cfg,
        modules,
        run.data,
        work,
        measured,
        frozen_names=frozen,
        record=record,
        extra_bytes=0 if "lightning" in sys.modules else LIBRARY_BYTES,
        sample_seconds=at_validations,
    )
    here = _here(run, work, measured, estimate, free_bytes)
    return {
        "name": cfg.name,
        "parameters": _parameters(run),
        "run": _describe_work(run, work, length, estimate),
        "here": here,
        **plan_elsewhere(run, work, measured, estimate, frozen, fits_here=here["fits"]),
        "assumptions": assumptions(),
        "notes": [*notes, *_notes(run, division, measured)],
    }


def _count_devices(run: Run, notes: list[str]) -> int:
    """Return the devices that train; what does not exist here is noted, and the probe runs on what does."""
    trainer = run.cfg.trainer
    try:
        check_accelerator(trainer.accelerator)
        return count_devices(trainer.accelerator, trainer.devices) * trainer.num_nodes
    except UserError as error:
        notes.append(f"the run cannot be trained here, and the probe is of what is here: {error}")
    devices = trainer.devices
    if trainer.accelerator not in ("auto", "cpu") and not torch.accelerator.is_available():
        trainer.accelerator = "cpu"
    n_devices = 1 if devices in ("auto", -1) else len(devices) if isinstance(devices, list) else int(devices)
    return n_devices * trainer.num_nodes


def _first_step(checkpoint: str | None) -> int:
    return 0 if checkpoint is None else int(read_checkpoint(Path(checkpoint), mmap=True)["global_step"])


def _parameters(run: Run) -> dict[str, int]:
    """Return the numbers of parameters, shared ones counted once."""
    model, head = run.model, parts.modules_of(run)["head"]
    embedding = sum(p.numel() for layer in (model.tok_emb, model.pos_emb) if layer for p in layer.parameters())
    return {
        "all": parts.count_parameters(run),
        "trainable": parts.count_parameters(run, learning=True),
        "embedding": embedding,
        "blocks": sum(p.numel() for part in (model.blocks, model.final_norm) for p in part.parameters()),
        "head": sum(p.numel() for p in head.parameters()),
    }


def _describe_work(run: Run, work: Work, length: Length, estimate: Estimate) -> dict[str, Any]:
    """Return the run's length, in every unit."""
    tokens, n_parameters = estimate.step_tokens * work.n_steps, parts.count_parameters(run)
    rows = work.n_steps * work.batch_size * work.accumulation * work.world_size
    return {
        "steps": work.n_steps,
        "steps_done": length.n_steps - work.n_steps,
        "rows_per_micro_batch": work.batch_size,
        "micro_batches_per_step": work.accumulation,
        "devices": work.world_size,
        "tokens_per_step": estimate.step_tokens,
        "tokens": tokens,
        "epochs": rows / length.epoch_rows,
        "tokens_per_parameter": tokens / n_parameters,
        "tokens_per_parameter_chinchilla": CHINCHILLA,
        "flops_per_token": flops_of_token(run, work),
        "flops": estimate.flops,
        "validations": estimate.n_validations,
    }


def _here(run: Run, work: Work, measured: Measurement, estimate: Estimate, free: int | None) -> dict[str, Any]:
    """Return the run's time, memory and disk on this machine."""
    trainer = run.cfg.trainer
    device, precision = torch.device(device_type(trainer.accelerator)), precision_of(run)
    peak = peak_flops(device, precision if trainer.precision != "tf32" else "tf32")
    sharing = work.world_size if device.type != "cpu" else 1
    free, disk = free or free_memory(device), free_disk(Path(run.cfg.output_dir))
    between = estimate.n_validations
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "precision": trainer.precision if trainer.precision == "tf32" else precision,
        "seconds": estimate.seconds,
        "seconds_split": {
            "training": estimate.training_seconds,
            "validation": between * estimate.validation_seconds,
            "samples": between * estimate.sample_seconds,
            "final_evaluation": estimate.final_seconds,
        },
        "tokens_per_second": estimate.tokens_per_second,
        "peak_flops": peak,
        "mfu": estimate.tokens_per_second * flops_of_token(run, work) / (peak * sharing),
        "memory_bytes": sum(estimate.memory.values()),
        "memory_split_bytes": estimate.memory,
        "more_memory_bytes": estimate.more_memory,
        "free_memory_bytes": free,
        "fits": free is None or estimate.more_memory <= MEMORY_FRACTION * free,
        "checkpoint_bytes": estimate.checkpoint_bytes,
        "disk_bytes": estimate.disk_bytes,
        "free_disk_bytes": disk,
        "fits_on_disk": estimate.disk_bytes + estimate.checkpoint_bytes <= disk,
        "probe": {
            "seconds": estimate.measuring_seconds,
            "micro_batches": measured.n_passes,
            "rows": measured.n_rows,
            "updates": measured.update_seconds is not None,
            "crowding": measured.crowding,
        },
    }


def _notes(run: Run, division: Division, measured: Measurement) -> list[str]:
    """Return what the numbers leave out."""
    found = []
    if measured.crowding > CROWDED:
        found.append(
            f"other processes want the cores too: as long as they do, it takes {measured.crowding:.1f} times as long "
            "here"
        )
    if measured.n_rows < division.batch_size:
        found.append(
            f"the probe had {measured.n_rows} of a micro-batch's {division.batch_size} rows, and the rest is "
            "extrapolated: seconds=60 tries more"
        )
    if measured.update_seconds is None:
        found.append("there is no memory here for the optimizer, so its update is counted and not measured")
    if run.cfg.compile is not False:
        found.append("a compiled step (compile=auto on a GPU) is faster than these numbers")
    if run.cfg.trainer.max_time is not None:
        found.append(f"trainer.max_time={run.cfg.trainer.max_time} may end the run earlier")
    if callback(run, "EarlyStopping"):
        found.append("early stopping may end the run earlier")
    return found
