"""The largest micro-batch that fits into memory.

The step is the same on every machine; only its division into micro-batches differs.
"""

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from gptlab.data.protocol import Prepared, Rows
from gptlab.errors import UserError
from gptlab.hardware.memory import MEMORY_FRACTION, free_memory
from gptlab.hardware.precision import choose_precision, device_type
from gptlab.heads.protocol import Loss
from gptlab.storage.checkpoint import read_checkpoint
from gptlab.training.muon import update_bytes
from gptlab.training.optimizers import OptimizerFactory, state_size
from gptlab.training.planning.activations import make_step, on_trial, saved_bytes

log = logging.getLogger(__name__)

RowStep = Callable[[int], Loss]  # number of rows, the longest first -> loss of their forward pass


def choose_micro_batch(
    modules: nn.ModuleDict,
    data: Prepared,
    *,
    accumulate_grad_batches: int | Literal["auto"],
    resume: str | None,
    accelerator: str,
    precision: str,
    optimizer: OptimizerFactory,
) -> tuple[int, int]:
    """Return the micro-batch size and the micro-batches per step.

    Args:
        accumulate_grad_batches: micro-batches per step, with data.batch_size rows each; `auto` is as few as memory
            allows, with data.batch_size rows in total.
        resume: the checkpoint of the run to resume, whose micro-batch size is kept.

    Raises:
        UserError: see `largest_micro_batch`.
    """
    if accumulate_grad_batches != "auto":
        return data.batch_size, accumulate_grad_batches
    if resume is None:
        micro_batch_size = largest_micro_batch(
            modules,
            data.train,
            batch_size=data.batch_size,
            accelerator=accelerator,
            precision=precision,
            optimizer=optimizer,
        )
    else:
        from gptlab.data.datamodule import RunDataModule  # Lightning takes seconds to import
        from gptlab.training.lightning_internals import data_state

        micro_batch_size = data_state(read_checkpoint(Path(resume), mmap=True), RunDataModule)["batch_size"]
    accumulation = data.batch_size // micro_batch_size
    log.info(
        f"micro-batch {micro_batch_size:,} x {accumulation:,} accumulation steps = {data.batch_size:,} rows per step"
    )
    return micro_batch_size, accumulation


def largest_micro_batch(
    modules: nn.ModuleDict,
    rows: Rows,
    *,
    batch_size: int,
    accelerator: str,
    precision: str,
    optimizer: OptimizerFactory,
) -> int:
    """Return the largest divisor of `batch_size` that fits into memory.

    On a GPU a training step with the longest rows is tried. On other devices running out of memory would end the
    process, so the bytes kept for backward are counted for one row and for two, and extrapolated.

    Args:
        modules: `model` and its `head`, which stay as they are.

    Raises:
        UserError: one row does not fit, or the system does not report its free memory.
    """
    device, precision = torch.device(device_type(accelerator)), choose_precision(precision, accelerator)
    trial = on_trial(modules, device=device, precision=precision)
    try_rows, longest = make_step(trial, rows, device=device, precision=precision), rows.reading_order()

    def step(n_rows: int) -> Loss:
        return try_rows(longest[:n_rows])

    trainable = [parameter for parameter in trial.parameters() if parameter.requires_grad]
    weight_bytes = sum(parameter.nbytes for parameter in trainable)
    free = free_memory(device)
    if free is None:
        raise UserError(
            "trainer.accumulate_grad_batches=auto: this system does not report its free memory: give a number"
        )
    budget = MEMORY_FRACTION * free - state_size(optimizer, trial.named_parameters()).n_bytes
    budget -= update_bytes(optimizer(trial.named_parameters()))
    with torch.random.fork_rng():
        gpu = device.type == "cuda"
        step_bytes = _measured_bytes(step, trainable, device) if gpu else _estimated_bytes(step, trial, weight_bytes)
        sizes = [n for n in range(batch_size, 0, -1) if batch_size % n == 0]
        largest = next((n for n in sizes if step_bytes(n) <= budget), None)
    if largest is None:
        raise UserError(
            f"a step needs more than the {free / 1e9:.1f} GB that are free, even with one row at a time: choose a "
            "smaller model, shorten its rows with model.context_length, or set activation_checkpointing=true"
        )
    return largest


def _measured_bytes(step: RowStep, trainable: Sequence[Tensor], device: torch.device) -> Callable[[int], float]:
    """Return a function that measures a step's memory on a GPU.

    Number of rows -> peak bytes, gradients included; infinite if the memory is not enough.
    """

    def measure(n_rows: int) -> float:
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        try:
            step(n_rows).total.backward()
        except torch.OutOfMemoryError:
            return math.inf
        finally:
            for parameter in trainable:
                parameter.grad = None
            torch.cuda.empty_cache()
        return torch.cuda.max_memory_allocated(device) - before

    return measure


def _estimated_bytes(step: RowStep, modules: nn.Module, gradient_bytes: int) -> Callable[[int], float]:
    """Return a function that estimates the memory of a step.

    Number of rows -> bytes of gradients and of the activations kept for backward, extrapolated from one row and two.
    """

    def count(n_rows: int) -> int:
        with saved_bytes(modules) as counted:
            step(n_rows)
            return counted()

    one, two = count(1), count(2)
    return lambda n_rows: gradient_bytes + one + (n_rows - 1) * (two - one)
