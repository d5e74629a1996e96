"""The devices of a run and their number format, by name."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from gptlab.errors import UserError

log = logging.getLogger(__name__)

STORED = {"32-true": torch.float32, "bf16-true": torch.bfloat16, "16-true": torch.float16, "64-true": torch.float64}
MIXED = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}  # what products are in


def check_accelerator(accelerator: str) -> None:
    """A UserError for a device that is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    there |= {"gpu": any(there.values()), "cpu": True, "auto": True}
    if not there[accelerator]:
        raise UserError(
            f"trainer.accelerator is {accelerator}, but torch {torch.__version__} sees none here: "
            "set trainer.accelerator=auto, or install a torch that was built for it"
        )


def count_devices(accelerator: str, devices: int | str | Sequence[int]) -> int:
    """How many devices train; on a CPU a device is a process.

    Raises:
        UserError: more GPUs are wanted than there are, or GPUs by number where there is none.
    """
    gpus = torch.cuda.device_count() if accelerator in ("auto", "cuda", "gpu") else 0
    if devices == "auto":
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
    """What Lightning calls it: `tf32` is float32; `auto` is bfloat16 where the hardware multiplies in it, else float32.

    A GPU without bfloat16 gets float32, not float16, whose range needs loss scaling: ask for `16-mixed` by name.
    """
    if precision == "tf32":
        return "32-true"
    if precision != "auto":
        return precision
    return "bf16-mixed" if multiplies_bf16(device_type(accelerator)) else "32-true"


def device_type(accelerator: str) -> str:
    """What torch calls the device that Lightning would take: cuda, mps or cpu."""
    if accelerator not in ("auto", "gpu"):
        return accelerator
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if accelerator == "gpu" or torch.backends.mps.is_available() else "cpu"


def autocast(precision: str, device: str) -> AbstractContextManager[Any]:
    """What a mixed precision computes in, as Lightning has it; the others need no context."""
    dtype = MIXED.get(precision)
    return nullcontext() if dtype is None else torch.autocast(device, dtype, cache_enabled=False)


@contextmanager
def float32_products(precision: str, accelerator: str) -> Iterator[None]:
    """For `tf32`: a GPU rounds what it multiplies in float32 to 10 bits of fraction from 23, until this ends.

    NVIDIA's have units for that from Ampere on; others multiply as ever.
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


def products_in(precision: str) -> str:
    """What Lightning's `32-true` does not say: that float32 products are now in `tf32`."""
    exact = torch.get_float32_matmul_precision() == "highest"
    return precision if exact or precision != "32-true" else "tf32"


def emulated(precision: str, device: str) -> bool:
    """Whether the device has no instructions for the format: products in it take many times as long as in float32."""
    if precision.startswith("bf16"):
        return device in ("cpu", "cuda") and not multiplies_bf16(device)
    return precision.startswith("16") and device == "cpu" and not cpu_multiplies_fp16()


def unless_emulated(precision: str, device: str) -> str:
    """The precision; float32 in place of one that the device emulates."""
    return "32-true" if emulated(precision, device) else precision


def warn_if_emulated(precision: str, device: str) -> None:
    """Says it, of a precision that somebody asked for by name."""
    if emulated(precision, device):
        here = "CPU" if device == "cpu" else "GPU"
        log.warning(
            f"precision {precision}: this {here} has no instructions for that format and emulates it, many times "
            "slower than float32: 32-true is fast here"
        )


def multiplies_bf16(device: str) -> bool:
    """Whether a cpu or cuda has instructions for bfloat16 products; a GPU of before Ampere emulates them, slowly."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and cpu_multiplies_bf16()


def cpu_multiplies_bf16() -> bool:
    """Whether the CPU has instructions for bfloat16 products: elsewhere they are emulated, and slower than float32."""
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # absent from some builds of torch
    return any(getattr(torch.cpu, name, bool)() for name in names)


def cpu_multiplies_fp16() -> bool:
    """The same for float16, which few CPUs multiply in."""
    return bool(getattr(torch.ops.mkldnn, "_is_mkldnn_fp16_supported", bool)())
