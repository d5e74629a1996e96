"""What a run will take on a GPU that is not here: counted, not measured."""

from collections.abc import Callable
from typing import Any, NamedTuple

from gptlab.hardware.gpus import Gpu
from gptlab.hardware.memory import MEMORY_FRACTION

# Assumed, and said with the numbers. Published MFU of training: 33 % by nanoGPT, 40 % by llm.c, 46 % by nanochat.
MFU = (0.2, 0.5)
SCALING = 0.9  # of several devices' speed that is left after their exchange of gradients
LAUNCH_SECONDS = 0.5e-3  # a layer and micro-batch, at least: its kernels are launched one after the other
CONTEXT_BYTES = 600_000_000  # of CUDA itself and its libraries


class Amount(NamedTuple):
    """The arithmetic of a run, on all its devices together."""

    training_flops: float
    reading_flops: float  # of validations and the final evaluation
    n_launched: int  # layers times rows, of one device: divided by a micro-batch's rows, how often a layer runs


class GpuPlan(NamedTuple):
    """A run on one kind of GPU."""

    gpu: Gpu
    precision: str
    n_rows: int  # of a micro-batch
    memory: dict[str, int]  # what takes it -> bytes at the peak, for each device
    seconds: tuple[float, float] | None  # at the highest MFU and at the lowest; None if it has no units for the format

    @property
    def fits(self) -> bool:
        """Return whether the memory is enough."""
        return fits_on(self.gpu, self.memory)


def fits_on(gpu: Gpu, memory: dict[str, int]) -> bool:
    """Return whether a GPU has the memory."""
    return sum(memory.values()) <= MEMORY_FRACTION * gpu.memory_bytes


def on_gpu(memory: dict[str, int]) -> dict[str, int]:
    """Return the parts of the memory on a GPU, with what CUDA takes."""
    return {**memory, "process": CONTEXT_BYTES}


def largest_rows(gpu: Gpu, n_rows: int, memory_of: Callable[[int], dict[str, int]]) -> int:
    """Return the largest divisor of the rows that fits, as `accumulate_grad_batches=auto` finds it; else 1.

    Args:
        memory_of: rows of a micro-batch -> parts of the memory.
    """
    divisors = (n for n in range(n_rows, 0, -1) if n_rows % n == 0)
    return next((n for n in divisors if fits_on(gpu, memory_of(n))), 1)


def plan_on(
    gpu: Gpu, amount: Amount, *, n_devices: int, precision: str, n_rows: int, memory: dict[str, int]
) -> GpuPlan:
    """Return what a run will take on as many of these GPUs as it has devices.

    Args:
        precision: Lightning's name, or `tf32`; not `auto`.
        n_rows: of a micro-batch.
    """
    peak = gpu.peak_flops(precision)
    if not peak:
        return GpuPlan(gpu, precision, n_rows, memory, None)
    speed = peak * n_devices * (SCALING if n_devices > 1 else 1.0)
    launching = amount.n_launched / n_rows * LAUNCH_SECONDS
    fast, slow = (
        max(amount.training_flops / speed / mfu, launching) + amount.reading_flops / speed / mfu
        for mfu in (MFU[1], MFU[0])
    )
    return GpuPlan(gpu, precision, n_rows, memory, (fast, slow))


def assumptions() -> dict[str, Any]:
    """Return what the numbers of other GPUs rest on."""
    return {
        "mfu": list(MFU),
        "scaling_of_several_devices": SCALING,
        "launch_seconds_per_layer_and_micro_batch": LAUNCH_SECONDS,
        "cuda_context_bytes": CONTEXT_BYTES,
        "usable_fraction_of_memory": MEMORY_FRACTION,
    }
