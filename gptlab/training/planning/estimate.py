"""Time, memory and disk of a training run, estimated before it starts."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gptlab.data.protocol import Prepared
from gptlab.hardware.memory import MEMORY_FRACTION
from gptlab.hardware.precision import weights_dtype
from gptlab.storage.checkpoint import content_bytes
from gptlab.training.mfu import flops_per_token, orthogonalisation_flops
from gptlab.training.muon import update_bytes
from gptlab.training.optimizers import OptimizerFactory, StateSize, state_size
from gptlab.training.planning.measurement import Measurement
from gptlab.training.planning.work import Work, count_shapes, final_tokens, row_sizes, validation_tokens

LONG_SECONDS = 600.0  # a longer run is described in full
LARGE_BYTES = 1e9  # so is one with a larger checkpoint
OPTIMIZER_READS = 10  # an update with clipping takes as long as reading the gradients this often
KERNEL_BYTES = 40_000_000  # of a CPU process: kernels that are compiled at the first pass
RUN_BYTES = 30_000_000  # likewise: loggers, samples and checkpoints
HOLES = 0.7  # of what a step needs: the holes of whole steps
HEAP_GROWTH = 0.1  # of what a step needs: what the holes grow by after the measured passes
# torch compiles a product in bfloat16 for each shape on a CPU, and keeps so many of them (oneDNN's cache of primitives)
PRODUCT_BYTES, MAX_PRODUCTS = 700_000, 1024
LOOP_SECONDS = 1.3e-3  # of a step, in Lightning's loop (python -m tests.benchmarks.loop)
CROWDED = 1.2  # times as long as alone: from here on it is said


class Parts(NamedTuple):
    """What a run trains."""

    modules: nn.ModuleDict  # `model` and its `head`
    optimizer: OptimizerFactory
    frozen_names: Collection[str]  # tensors that checkpoints leave out


class Estimate(NamedTuple):
    """What a run will take, from its start or from where it resumes."""

    n_steps: int
    step_tokens: int  # of all devices, padding included
    seconds: float  # of training, validation, samples and the final evaluation
    training_seconds: float
    n_validations: int
    validation_seconds: float  # of one validation
    sample_seconds: float  # of a validation's samples and questions; 0 if they were not tried
    final_seconds: float  # of the final evaluation
    tokens_per_second: float  # in training steps
    flops: float
    memory: dict[str, int]  # what takes it -> bytes at the peak, for each device
    more_memory: int  # bytes that are not in use yet, of all processes that share the memory
    checkpoint_bytes: int  # the largest file
    disk_bytes: int  # all checkpoints
    measuring_seconds: float
    crowding: float  # how many times as long it takes while other processes want the cores as they did then

    def lines(self) -> list[str]:
        """Return time, memory and disk in words, each a line."""
        rate = f"{self.n_steps:,} steps of {self.step_tokens:,} tokens at {self.tokens_per_second:,.0f} a second"
        return [
            f"{self._time()}: {rate} (from {self.measuring_seconds:.1f} s of measuring)",
            f"{show_bytes(sum(self.memory.values()))} of memory",
            f"a checkpoint takes {show_bytes(self.checkpoint_bytes)}, the run {show_bytes(self.disk_bytes)}",
        ]

    def summary_line(self) -> str:
        """Return a line, a short one for a short run."""
        if self.seconds > LONG_SECONDS or self.checkpoint_bytes > LARGE_BYTES:
            return "; ".join(self.lines())
        memory, disk = show_bytes(sum(self.memory.values())), show_bytes(self.disk_bytes)
        return f"{self._time()}, {memory} of memory, {disk} on disk"

    def _time(self) -> str:
        """Return the time alone on the cores, and how much longer it is if it is not."""
        crowded = f" ({self.crowding:.1f} times as long while other processes want the cores as now)"
        return f"about {show_seconds(self.seconds)}{crowded if self.crowding > CROWDED else ''}"

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
    parts: Parts,
    data: Prepared,
    work: Work,
    measured: Measurement,
    *,
    device: torch.device,
    precision: str,
    record: Mapping[str, Any],
    checkpoints: Collection[str],
    averages: bool,
    extra_bytes: int,
    sample_seconds: float,
) -> Estimate:
    """Return what a run will take.

    Args:
        measured: a micro-batch of the run, measured on the device.
        precision: Lightning's name, not `auto`.
        record: what every checkpoint stores beside its tensors.
        checkpoints: those that the run writes, of `best`, `last` and `stable`.
        averages: whether it keeps an average of the weights, and validates both.
        extra_bytes: what the process of the run will have in memory, and this one has not.
        sample_seconds: of the samples and questions at each validation.
    """
    row_tokens, width = row_sizes(data.train, work)
    flops = flops_per_token(parts.modules["model"], parts.modules["head"], n_tokens=width)  # type: ignore[arg-type]
    step_tokens = round(row_tokens * work.batch_size * work.accumulation)  # of a device
    sharing = work.world_size if device.type == "cpu" else 1  # processes of a CPU share its cores and memory
    seconds = sharing * _seconds_per_step(parts, measured, step_tokens, flops) + LOOP_SECONDS
    reading = measured.forward_seconds_per_token * sharing / work.world_size  # seconds per token
    validation = reading * (1 + averages) * validation_tokens(data, work)
    final = measured.forward_seconds_per_token * final_tokens(data, work)  # on one device
    sizes = measure_sizes(parts, precision, averages=averages)
    memory = memory_parts(sizes, measured.activation_bytes, measured.logit_bytes, world_size=work.world_size)
    in_use = measured.memory_before if device.type == "cpu" else 0
    if in_use:
        memory["process"] = max(0, in_use - memory["weights"]) + KERNEL_BYTES + RUN_BYTES + extra_bytes
        n_shapes = count_shapes(data.train, work) - measured.n_shapes if "bf16" in precision else 0
        memory["workspace"] = _workspace_bytes(memory, measured, work) + _product_bytes(parts.modules, n_shapes)
    files = {name: _checkpoint_bytes(name, sizes, parts.frozen_names, record) for name in checkpoints}
    between = work.n_validations * (validation + sample_seconds)
    return Estimate(
        n_steps=work.n_steps,
        step_tokens=step_tokens * work.world_size,
        seconds=round(work.n_steps * seconds + between + final, 1),
        training_seconds=round(work.n_steps * seconds, 1),
        n_validations=work.n_validations,
        validation_seconds=round(validation, 3),
        sample_seconds=round(sample_seconds, 3),
        final_seconds=round(final, 3),
        tokens_per_second=round(step_tokens * work.world_size / seconds, 1),
        flops=float(flops * step_tokens * work.world_size * work.n_steps),
        memory=memory,
        more_memory=sum(memory.values()) * sharing - in_use,
        checkpoint_bytes=max(files.values(), default=0),
        disk_bytes=sum(files.values()),
        measuring_seconds=round(measured.seconds, 2),
        crowding=round(measured.crowding, 2),
    )


class Sizes(NamedTuple):
    """Tensors of a run, without their numbers."""

    weights: dict[str, Tensor]  # of state_dict, each once
    gradient_bytes: int
    state: StateSize
    update_bytes: int  # that the optimizer holds during a step only
    average: StateSize  # of the weights, in float32


def measure_sizes(parts: Parts, precision: str, *, averages: bool) -> Sizes:
    """Return the sizes of weights, gradients and the optimizer's state."""
    dtype = weights_dtype(precision)

    def size(tensor: Tensor) -> Tensor:
        return torch.empty_like(tensor, device="meta", dtype=dtype if tensor.is_floating_point() else None)

    once = {tensor.data_ptr(): (name, tensor) for name, tensor in parts.modules.state_dict().items()}
    named = parts.modules.named_parameters()
    learning = {name: nn.Parameter(size(p)) for name, p in named if p.requires_grad}
    return Sizes(
        weights={name: size(tensor) for name, tensor in once.values()},
        gradient_bytes=sum(parameter.nbytes for parameter in learning.values()),
        state=state_size(parts.optimizer, learning.items()),
        update_bytes=update_bytes(parts.optimizer(parts.modules.named_parameters())),
        average=StateSize(averages * 4 * sum(p.numel() for p in learning.values()), averages * len(learning)),
    )


def memory_parts(sizes: Sizes, activation_bytes: int, logit_bytes: int, *, world_size: int) -> dict[str, int]:
    """Return the parts of the peak: the end of the forward pass of a step after the first.

    The gradients of the step before are freed only then. What the optimizer needs for an update comes on top, because
    the holes that activations leave in the heap are too small for it. With several devices each gathers the gradients
    in buckets of the same size.
    """
    return {
        "process": 0,
        "weights": sum(tensor.nbytes for tensor in sizes.weights.values()),
        "gradients": sizes.gradient_bytes * (2 if world_size > 1 else 1),
        "optimizer": sizes.state.n_bytes,
        "average": sizes.average.n_bytes,
        "activations": activation_bytes,
        "logits": logit_bytes,
        "update": sizes.update_bytes,
        "workspace": 0,
    }


def _workspace_bytes(memory: Mapping[str, int], measured: Measurement, work: Work) -> int:
    """Return what a process takes beside tensors that are counted: those of single kernels, and holes in its heap.

    It is what the process has grown by in the measured passes beyond their tensors, and grows with the rows, and over
    the steps, whose tensors differ in size.
    """
    share = min(1.0, measured.n_rows / work.batch_size)
    held = ["gradients", *(["optimizer", "update"] if measured.update_seconds is not None else [])]
    tensors = sum(memory[name] for name in held) + share * (memory["activations"] + memory["logits"])
    grown = measured.memory_after - measured.memory_before
    found, needed = max(0.0, grown - tensors - KERNEL_BYTES), memory["activations"] + memory["logits"]
    if share < 1:  # a part of it is no hole, and does not grow with the rows
        found = max(found, min(found / share, HOLES * needed))
    return round(found + HEAP_GROWTH * (needed + found))


def _product_bytes(modules: nn.Module, n_shapes: int) -> int:
    """Return the bytes of compiled products for further shapes of batches: one forward and two backward a matrix."""
    matrices = {layer.weight.shape for layer in modules.modules() if isinstance(layer, nn.Linear)}
    return PRODUCT_BYTES * min(3 * len(matrices) * max(0, n_shapes), MAX_PRODUCTS)


def _checkpoint_bytes(name: str, sizes: Sizes, frozen_names: Collection[str], record: Mapping[str, Any]) -> int:
    """Return the size of `best`, which has weights alone, or of others, which have the optimizer's state too."""
    kept = [tensor.nbytes for key, tensor in sizes.weights.items() if key not in frozen_names]
    states = [sizes.state, sizes.average] if name != "best" else []
    n_bytes, n_tensors = (sum(sizes) for sizes in zip(*states, strict=True)) if states else (0, 0)
    return content_bytes(sum(kept) + n_bytes, n_tensors=len(kept) + n_tensors, record=record)


def _seconds_per_step(parts: Parts, measured: Measurement, step_tokens: int, flops: int) -> float:
    """Return the time of a step on one device: its micro-batches, and the optimizer's update."""
    update = measured.update_seconds
    if update is None:
        optimizer = parts.optimizer(parts.modules.named_parameters())
        products = orthogonalisation_flops(optimizer) / flops * measured.seconds_per_token
        update = OPTIMIZER_READS * measured.gradient_seconds + products
    return step_tokens * measured.seconds_per_token + update


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
