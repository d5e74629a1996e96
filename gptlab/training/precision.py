"""The number format of a run, by name."""

import torch

PRECISIONS = ("auto", "32-true", "bf16-mixed", "bf16-true", "16-mixed", "16-true", "64-true")


def choose_precision(precision: str, accelerator: str) -> str:
    """What `auto` means on this device: bfloat16 where the hardware multiplies in it, else float32.

    A GPU without bfloat16 gets float32, not float16, whose range needs loss scaling: ask for `16-mixed` by name.
    """
    if precision != "auto":
        return precision
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if accelerator in ("cuda", "gpu"):
        return "bf16-mixed" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "32-true"
    return "bf16-mixed" if accelerator == "cpu" and cpu_multiplies_bf16() else "32-true"


def cpu_multiplies_bf16() -> bool:
    """Whether the CPU has instructions for bfloat16 products: elsewhere they are emulated, and slower than float32."""
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # absent from some builds of torch
    return any(getattr(torch.cpu, name, bool)() for name in names)
