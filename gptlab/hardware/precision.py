"""Devices of a run and their precision."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from gptlab.errors import UserError
from gptlab.hardware.torch_internals import cpu_multiplies_bf16, cpu_multiplies_fp16

log = logging.getLogger(__name__)

# Lightning's names -> dtype of the weights, and dtype of the products where it differs
TRUE_DTYPES = {
    "32-true": torch.float32,
    "bf16-true": torch.bfloat16,
    "16-true": torch.float16,
    "64-true": torch.float64,
}
MIXED_DTYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}

ForwardContext = Callable[
    [], AbstractContextManager[Any]
]  # returns a new context that sets the precision to compute in


def check_accelerator(accelerator: str) -> None:
    """Raise UserError if there is no such device."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    available |= {"gpu": any(available.values()), "cpu": True, "auto": True}
    if not available[accelerator]:
        raise UserError(
            f"trainer.accelerator is {accelerator}, but torch {torch.__version__} sees no such device: "
            "set trainer.accelerator=auto, or install a torch that was built for it"
        )


def count_devices(accelerator: str, devices: int | str | Sequence[int]) -> int:
    """Return the number of devices that train.

    On a CPU a device is a process.

    Raises:
        UserError: more GPUs are wanted than there are, or GPU numbers are given without a GPU.
    """
    gpus = torch.cuda.device_count() if accelerator in ("auto", "cuda", "gpu") else 0
    if devices in ("auto", -1):  # -1 is Lightning's word for all
        return max(1, gpus)
    if isinstance(devices, int | str):
        wanted = int(devices)
    elif accelerator == "cpu" or not (gpus or torch.backends.mps.is_available()):
        raise UserError(
            f"trainer.devices={list(devices)} names GPUs, but none is used here: give the number of processes"
        )
    else:
        wanted = len(devices)
    if gpus and wanted > gpus:
        raise UserError(f"trainer.devices asks for {wanted} GPUs, but there are {gpus}: lower it, or set it to auto")
    return wanted


def choose_precision(precision: str, accelerator: str) -> str:
    """Return Lightning's name of a precision.

    `tf32` is float32 to Lightning; `auto` is bfloat16 if the hardware multiplies in it, else float32. A GPU without
    bfloat16 gets float32 and not float16, whose range needs loss scaling: ask for `16-mixed` by name.
    """
    if precision == "tf32":
        return "32-true"
    if precision != "auto":
        return precision
    return "bf16-mixed" if multiplies_bf16(device_type(accelerator)) else "32-true"


def weights_dtype(precision: str) -> torch.dtype | None:
    """Return the type to which Lightning converts all weights, None if they keep theirs."""
    return None if precision == "32-true" else TRUE_DTYPES.get(precision)


def device_type(accelerator: str) -> str:
    """Return torch's name of an accelerator: cuda, mps or cpu."""
    if accelerator not in ("auto", "gpu"):
        return accelerator
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if accelerator == "gpu" or torch.backends.mps.is_available() else "cpu"


def autocast(precision: str, device: str) -> AbstractContextManager[Any]:
    """Return Lightning's autocast context for a mixed precision.

    Other precisions get an empty context.
    """
    dtype = MIXED_DTYPES.get(precision)
    return nullcontext() if dtype is None else torch.autocast(device, dtype, cache_enabled=False)


@contextmanager
def float32_matmul_precision(precision: str, accelerator: str) -> Iterator[None]:
    """Let a GPU multiply in TF32 if the precision says so.

    Inside the context the factors are rounded from 23 to 10 bits of fraction. NVIDIA's GPUs have units for it from
    Ampere on; others keep multiplying in float32.
    """
    before = torch.get_float32_matmul_precision()
    if precision == "tf32" and device_type(accelerator) == "cuda":
        torch.set_float32_matmul_precision("high")
    elif precision == "tf32":
        log.warning("precision tf32: only NVIDIA GPUs multiply in that format, so this is 32-true")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def effective_precision(precision: str) -> str:
    """Return the precision of products, `tf32` included.

    Lightning says `32-true` also if float32 is multiplied in TF32. Other precisions are returned as they are.
    """
    exact = torch.get_float32_matmul_precision() == "highest"
    return precision if exact or precision != "32-true" else "tf32"


def is_emulated(precision: str, device: str) -> bool:
    """Return whether the device lacks instructions for the format.

    Products in an emulated format take many times as long as in float32.
    """
    if precision.startswith("bf16"):
        return device in ("cpu", "cuda") and not multiplies_bf16(device)
    return precision.startswith("16") and device == "cpu" and not cpu_multiplies_fp16()


def avoid_emulation(precision: str, device: str) -> str:
    """Return the precision, or float32 if the device emulates it."""
    return "32-true" if is_emulated(precision, device) else precision


def warn_if_emulated(precision: str, device: str) -> None:
    """Log a warning if the device emulates the precision."""
    if is_emulated(precision, device):
        here = "CPU" if device == "cpu" else "GPU"
        log.warning(
            f"precision {precision}: this {here} has no instructions for that format and emulates it, many times "
            "slower than float32: use 32-true"
        )


def multiplies_bf16(device: str) -> bool:
    """Return whether the device has instructions for bfloat16 products.

    GPUs before Ampere emulate them, slowly.

    Args:
        device: `cpu` or `cuda`; any other has none.
    """
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and cpu_multiplies_bf16()
