"""Time, memory and disk of a training run, estimated before it starts."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from gptlab.data.protocol import Prepared, Rows
from gptlab.hardware.memory import MEMORY_FRACTION
from gptlab.hardware.precision import weights_dtype
from gptlab.storage.checkpoint import content_bytes
from gptlab.training.measurement import Measurement
from gptlab.training.mfu import flops_per_token, orthogonalisation_flops
from gptlab.training.muon import update_bytes
from gptlab.training.optimizers import StateSize, state_size

LONG_SECONDS = 600.0  # a longer run is described in full
LARGE_BYTES = 1e9  # so is one with a larger checkpoint
OPTIMIZER_READS = 10  # an update with clipping takes as long as reading the gradients this often
WORKSPACE_BYTES = 350_000_000  # of a CPU process: compiled kernels, loggers, plots and holes in the heap
N_SAMPLED = 8  # batches whose tokens are counted


class Work(NamedTuple):
    """What a run has still to do."""

    n_steps: int
    batch_size: int  # rows of a micro-batch on each device
    accumulation: int  # micro-batches per step
    world_size: int
    n_validations: int
    n_val_rows: int  # of a validation
    n_final_rows: int  # training rows that are measured at the end; 0 if nothing is


class Estimate(NamedTuple):
    """What a run will take, from its start or from where it resumes."""

    n_steps: int
    step_tokens: int  # of all devices, padding included
    seconds: float  # of training, validation and the final evaluation
    validation_seconds: float  # of one validation
    final_seconds: float  # of the final evaluation
    tokens_per_second: float  # in training steps
    flops: float
    memory: dict[str, int]  # what takes it -> bytes at the peak, for each device
    more_memory: int  # bytes that are not in use yet, of all processes that share the memory
    checkpoint_bytes: int  # the largest file
    disk_bytes: int  # all checkpoints
    measuring_seconds: float

    def lines(self) -> list[str]:
        """Return time, memory and disk in words, each a line."""
        rate = f"{self.n_steps:,} steps of {self.step_tokens:,} tokens at {self.tokens_per_second:,.0f} a second"
        return [
            f"about {show_seconds(self.seconds)}: {rate} (from {self.measuring_seconds:.1f} s of measuring)",
            f"{show_bytes(sum(self.memory.values()))} of memory",
            f"a checkpoint takes {show_bytes(self.checkpoint_bytes)}, the run {show_bytes(self.disk_bytes)}",
        ]

    def summary_line(self) -> str:
        """Return a line, a short one for a short run."""
        if self.seconds > LONG_SECONDS or self.checkpoint_bytes > LARGE_BYTES:
            return "; ".join(self.lines())
        memory, disk = show_bytes(sum(self.memory.values())), show_bytes(self.disk_bytes)
        return f"about {show_seconds(self.seconds)}, {memory} of memory, {disk} on disk"

    def warnings(self, *, free_memory: int | None, free_disk: int) -> list[str]:
        """Return a sentence for each thing that will not fit.

        Args:
            free_memory: bytes; None if the system does not report them.
            free_disk: bytes where the checkpoints are written, those of the run that will be replaced included.
        """
        found = []
        if free_memory is not None and self.more_memory > MEMORY_FRACTION * free_memory:
            found.append(
                f"the run will take about {show_bytes(self.more_memory)} of memory more, and "
                f"{show_bytes(free_memory)} are free: lower data.batch_size or model.context_length, or set "
                "trainer.accumulate_grad_batches=auto, activation_checkpointing=true or tuning=lora"
            )
        while_writing = self.disk_bytes + self.checkpoint_bytes  # a file replaces the previous one when it is whole
        if while_writing > free_disk:
            found.append(
                f"the run's checkpoints will take about {show_bytes(self.disk_bytes)}, and "
                f"{show_bytes(while_writing)} while one is written, but {show_bytes(free_disk)} are free: make room, "
                "or choose another output_dir"
            )
        return found


def estimate_training(
    module: Any,  # a GPTModule
    data: Prepared,
    work: Work,
    measured: Measurement,
    *,
    device: torch.device,
    precision: str,
    record: Mapping[str, Any],
    checkpoints: Collection[str],
    averages: bool,
) -> Estimate:
    """Return what a run will take.

    Args:
        measured: a micro-batch of the run, measured on the device.
        precision: Lightning's name, not `auto`.
        record: what every checkpoint stores beside its tensors.
        checkpoints: those that the run writes, of `best` and `last`.
        averages: whether it keeps an average of the weights, and validates both.
    """
    order = data.train.epoch(np.random.default_rng(0), work.batch_size * work.world_size)
    row_tokens, width = _row_tokens(data.train, order, work.batch_size)
    flops = flops_per_token(module.model, module.head, n_tokens=width)
    step_tokens = round(row_tokens * work.batch_size * work.accumulation)  # of a device
    on_cpu = device.type == "cpu"
    sharing = work.world_size if on_cpu else 1  # processes of a CPU share its cores and memory
    optimizer = module.optimizer_factory(module.named_parameters())
    seconds = sharing * _seconds_per_step(optimizer, measured, step_tokens, flops)
    reading = measured.forward_seconds_per_token * sharing / work.world_size  # seconds per token
    validation = reading * (1 + averages) * _all_tokens(data.val, work.batch_size, most=work.n_val_rows)
    final = measured.forward_seconds_per_token * _final_tokens(data, work, row_tokens)  # on one device
    sizes = _sizes(module, precision, averages=averages)
    in_use = measured.memory_before if on_cpu else 0
    memory = _memory(sizes, measured, in_use=in_use) | {"update": update_bytes(optimizer)}
    files = {name: _checkpoint_bytes(name, sizes, module.frozen_names, record) for name in checkpoints}
    return Estimate(
        n_steps=work.n_steps,
        step_tokens=step_tokens * work.world_size,
        seconds=round(work.n_steps * seconds + work.n_validations * validation + final, 1),
        validation_seconds=round(validation, 3),
        final_seconds=round(final, 3),
        tokens_per_second=round(step_tokens * work.world_size / seconds, 1),
        flops=float(flops * step_tokens * work.world_size * work.n_steps),
        memory=memory,
        more_memory=sum(memory.values()) * sharing - in_use,
        checkpoint_bytes=max(files.values(), default=0),
        disk_bytes=sum(files.values()),
        measuring_seconds=round(measured.seconds, 2),
    )


class _Sizes(NamedTuple):
    """Tensors of a run, without their numbers."""

    weights: dict[str, Tensor]  # of state_dict, each once
    gradient_bytes: int
    state: StateSize
    average: StateSize  # of the weights, in float32


def _sizes(module: Any, precision: str, *, averages: bool) -> _Sizes:
    """Return the sizes of weights, gradients and the optimizer's state."""
    dtype = weights_dtype(precision)

    def size(tensor: Tensor) -> Tensor:
        return torch.empty_like(tensor, device="meta", dtype=dtype if tensor.is_floating_point() else None)

    once = {tensor.data_ptr(): (name, tensor) for name, tensor in module.state_dict().items()}
    learning = {name: nn.Parameter(size(p)) for name, p in module.named_parameters() if p.requires_grad}
    return _Sizes(
        weights={name: size(tensor) for name, tensor in once.values()},
        gradient_bytes=sum(parameter.nbytes for parameter in learning.values()),
        state=state_size(module.optimizer_factory, learning.items()),
        average=StateSize(averages * 4 * sum(p.numel() for p in learning.values()), averages * len(learning)),
    )


def _memory(sizes: _Sizes, measured: Measurement, *, in_use: int) -> dict[str, int]:
    """Return the parts of the peak: the end of the forward pass of a step after the first.

    The gradients of the step before are freed only then. What the optimizer needs for an update comes on top, because
    the holes that activations leave in the heap are too small for it.

    Args:
        in_use: by the process, its weights included; 0 on a GPU.
    """
    weights = sum(tensor.nbytes for tensor in sizes.weights.values())
    return {
        "process": max(0, in_use - weights) + WORKSPACE_BYTES if in_use else 0,
        "weights": weights,
        "gradients": sizes.gradient_bytes,
        "optimizer": sizes.state.n_bytes,
        "average": sizes.average.n_bytes,
        "activations": measured.activation_bytes,
    }


def _checkpoint_bytes(name: str, sizes: _Sizes, frozen_names: Collection[str], record: Mapping[str, Any]) -> int:
    """Return the size of `best`, which has weights alone, or of `last`, which has the optimizer's state too."""
    kept = [tensor.nbytes for key, tensor in sizes.weights.items() if key not in frozen_names]
    states = [sizes.state, sizes.average] if name == "last" else []
    n_bytes, n_tensors = (sum(sizes) for sizes in zip(*states, strict=True)) if states else (0, 0)
    return content_bytes(sum(kept) + n_bytes, n_tensors=len(kept) + n_tensors, record=record)


def _seconds_per_step(optimizer: torch.optim.Optimizer, measured: Measurement, step_tokens: int, flops: int) -> float:
    """Return the time of a step on one device: its micro-batches, and the optimizer's update."""
    products = orthogonalisation_flops(optimizer) / flops * measured.seconds_per_token
    return step_tokens * measured.seconds_per_token + OPTIMIZER_READS * measured.gradient_seconds + products


def _final_tokens(data: Prepared, work: Work, train_row_tokens: float) -> float:
    """Return the tokens that the final evaluation reads."""
    if not work.n_final_rows:
        return 0.0
    train = min(work.n_final_rows, len(data.train)) * train_row_tokens
    return train + (0.0 if data.test is None else _all_tokens(data.test, work.batch_size, most=len(data.test)))


def _all_tokens(rows: Rows, batch_size: int, *, most: int) -> float:
    """Return the tokens of all rows, at most so many, with their padding."""
    return min(most, len(rows)) * _row_tokens(rows, rows.reading_order(), batch_size)[0] if len(rows) else 0.0


def _row_tokens(rows: Rows, order: np.ndarray, batch_size: int) -> tuple[float, int]:
    """Return the mean tokens of a row with its padding, and of a line of ids."""
    n_batches = max(1, len(order) // batch_size)
    starts = batch_size * np.unique(np.linspace(0, n_batches - 1, N_SAMPLED).astype(int))
    batches = [order[start : start + batch_size] for start in starts]
    ids = [rows[batch]["ids"] for batch in batches]
    n_tokens = sum(each.numel() for each in ids)
    return n_tokens / sum(map(len, batches)), round(n_tokens / sum(len(each) for each in ids))


def show_seconds(seconds: float) -> str:
    """Return a duration in words, in two units at most."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} days {hours % 24} h"


def show_bytes(n_bytes: float) -> str:
    """Return a size in words."""
    if n_bytes >= 1e9:
        return f"{n_bytes / 1e9:,.1f} GB"
    return f"{n_bytes / 1e6:,.0f} MB" if n_bytes >= 1e7 else f"{n_bytes / 1e6:,.1f} MB"
