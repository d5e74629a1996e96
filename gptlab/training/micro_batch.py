"""A step's batch in parts, each as large as memory takes: the step is the same, whatever machine it is made on."""

import copy
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from gptlab.batch import on_device
from gptlab.data.protocol import Prepared, Rows
from gptlab.errors import UserError
from gptlab.hardware.memory import free_memory
from gptlab.hardware.precision import STORED, autocast, choose_precision, device_type
from gptlab.heads.protocol import Loss
from gptlab.storage.checkpoint import read_checkpoint

log = logging.getLogger(__name__)

MEMORY_FRACTION = 0.9  # of the free memory: what is given back and taken again leaves holes
OPTIMIZER_STATES = 2  # numbers that AdamW keeps of each that learns; Muon keeps one

Step = Callable[[int], Loss]  # of so many rows, forwards


def choose_micro_batch(
    modules: nn.ModuleDict,
    data: Prepared,
    *,
    accumulate_grad_batches: int | Literal["auto"],
    resume: str | None,
    accelerator: str,
    precision: str,
) -> tuple[int, int]:
    """How many rows go through a step together, and how many times.

    Args:
        accumulate_grad_batches: the times, with data.batch_size each; `auto` is as few as memory allows, with
            data.batch_size in all.
        resume: the checkpoint of a run that goes on, and is divided as it was.

    Raises:
        UserError: as `rows_in_memory`.
    """
    if accumulate_grad_batches != "auto":
        return data.batch_size, accumulate_grad_batches
    if resume is None:
        together = rows_in_memory(
            modules, data.train, batch_size=data.batch_size, accelerator=accelerator, precision=precision
        )
    else:
        together = read_checkpoint(Path(resume), mmap=True)["RunDataModule"]["batch_size"]
    n_times = data.batch_size // together
    log.info(f"the {data.batch_size:,} rows of a step go through memory {together:,} at a time, {n_times:,} times")
    return together, n_times


def rows_in_memory(modules: nn.ModuleDict, rows: Rows, *, batch_size: int, accelerator: str, precision: str) -> int:
    """The most rows that go through a training step together, of the numbers that divide `batch_size`.

    On a GPU the longest rows are tried. Elsewhere, where taking too much ends the process, what one row and two keep
    for the gradient is counted, and reckoned on from there.

    Args:
        modules: `model` and its `head`; a copy of them is tried.

    Raises:
        UserError: one row is too much; the system does not tell how much memory it has.
    """
    device, precision = torch.device(device_type(accelerator)), choose_precision(precision, accelerator)
    tried = copy.deepcopy(modules).to(device, dtype=STORED.get(precision)).train()
    longest = rows.reading_order()

    def step(n: int) -> Loss:
        batch = on_device(rows[longest[:n]], device)
        with autocast(precision, device.type):
            hidden = tried["model"](batch["ids"], segments=batch.get("segments"))
            return tried["head"].loss(hidden, batch)  # type: ignore[operator]  # a Head

    learning = [parameter for parameter in tried.parameters() if parameter.requires_grad]
    weight_bytes = sum(parameter.nbytes for parameter in learning)
    free = free_memory(device)
    if free is None:
        raise UserError(
            "trainer.accumulate_grad_batches=auto: this system does not tell how much memory is free; give a number"
        )
    room = MEMORY_FRACTION * free - OPTIMIZER_STATES * weight_bytes
    with torch.random.fork_rng():
        takes = _at_most(step, learning, device) if device.type == "cuda" else _kept(step, weight_bytes)
        sizes = [n for n in range(batch_size, 0, -1) if batch_size % n == 0]
        found = next((n for n in sizes if takes(n) <= room), None)
    if found is None:
        raise UserError(
            f"a step needs more than the {free / 1e9:.1f} GB that are free, even with one row at a time: choose a "
            "smaller model, shorten its rows with model.context_length, or set activation_checkpointing=true"
        )
    return found


def _at_most(step: Step, learning: Sequence[Tensor], device: torch.device) -> Callable[[int], float]:
    """Rows -> the bytes that a GPU's tensors take at most, gradients too; infinite where there are not so many."""

    def takes(n: int) -> float:
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        try:
            step(n).total.backward()
        except torch.OutOfMemoryError:
            return math.inf
        finally:
            for parameter in learning:
                parameter.grad = None
            torch.cuda.empty_cache()
        return torch.cuda.max_memory_allocated(device) - before

    return takes


def _kept(step: Step, gradient_bytes: int) -> Callable[[int], float]:
    """Rows -> the bytes that gradients take and what is kept for them, reckoned from one row's and two rows'."""

    def counted(n: int) -> int:
        kept: dict[int, torch.UntypedStorage] = {}

        def keep(tensor: Tensor) -> Tensor:
            if not isinstance(tensor, nn.Parameter):
                storage = tensor.untyped_storage()
                kept[storage.data_ptr()] = storage  # held, so that no other takes its place
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            step(n)
        return sum(storage.nbytes() for storage in kept.values())

    one, two = counted(1), counted(2)
    return lambda n: gradient_bytes + one + (n - 1) * (two - one)
