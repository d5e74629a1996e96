"""What a token costs in arithmetic, and what the device can do at best: their ratio is the MFU.

T tokens of a window, L layers, H query heads, K head size, N numbers in matrices that multiply.
"""

from functools import cache
from time import perf_counter
from typing import NamedTuple

import torch
from torch import nn

from gptlab.heads.projection import Projection
from gptlab.model.attention import CausalSelfAttention
from gptlab.model.gpt import GPT


class Peak(NamedTuple):
    """Dense matrix products at best, in FLOP/s, by number format; 0 where the hardware has no units for it."""

    bfloat16: float
    float16: float
    tf32: float
    float32: float


# NVIDIA's data sheets; from Ampere on they print twice as much, "with sparsity", which no dense matrix has.
A100 = Peak(312e12, 312e12, 156e12, 19.5e12)
H100 = Peak(989e12, 989e12, 494e12, 67e12)
# By the whole name that torch gives: a slice, a laptop's or another board's GPU has another name, and is measured.
KNOWN = {
    "Tesla V100-SXM2-16GB": Peak(0, 125e12, 0, 15.7e12),
    "Tesla V100-SXM2-32GB": Peak(0, 125e12, 0, 15.7e12),
    "Tesla V100-PCIE-16GB": Peak(0, 112e12, 0, 14e12),
    "Tesla V100-PCIE-32GB": Peak(0, 112e12, 0, 14e12),
    "Tesla T4": Peak(0, 65e12, 0, 8.1e12),
    "NVIDIA A100-SXM4-40GB": A100,
    "NVIDIA A100-SXM4-80GB": A100,
    "NVIDIA A100-PCIE-40GB": A100,
    "NVIDIA A100 80GB PCIe": A100,
    "NVIDIA A10": Peak(125e12, 125e12, 62.5e12, 31.2e12),
    "NVIDIA L4": Peak(121e12, 121e12, 60e12, 30.3e12),
    "NVIDIA L40S": Peak(362e12, 362e12, 183e12, 91.6e12),
    "NVIDIA GeForce RTX 3090": Peak(71e12, 71e12, 35.6e12, 35.6e12),
    "NVIDIA GeForce RTX 4090": Peak(165.2e12, 165.2e12, 82.6e12, 82.6e12),
    "NVIDIA H100 80GB HBM3": H100,
    "NVIDIA H100 PCIe": Peak(756e12, 756e12, 378e12, 51e12),
    "NVIDIA H200": H100,
}
FORMATS = {"bf16": torch.bfloat16, "16": torch.float16, "tf32": torch.float32, "32": torch.float32, "64": torch.float64}
SECONDS, ROUNDS, MAX_SIZE = 0.25, 5, 8192  # of a measurement: about how long, how often each size, how large


def flops_per_token(model: GPT, head: nn.Module, *, n_tokens: int) -> int:
    """6 N + 12 L H K T: forward and backward of one token in a window of T (PaLM, arXiv 2204.02311, appendix B).

    A number in a matrix is multiplied and added once forward and twice backward, for the gradient of what came in and
    for its own: once only where it does not learn, and not at all before the first layer that does. Tables that are
    only looked up are not in N; the output matrix is, also where it is such a table. Each token looks at all T, or as
    many as the model's window lets it see, the hidden half counted too. What activation checkpointing computes again is
    no progress, and not counted.
    """
    flops, n_seen = 0, min(n_tokens, model.window or n_tokens)
    back = False  # from the first parameter on that learns, what comes in needs a gradient
    for layer in nn.ModuleList([model, head]).modules():
        if isinstance(layer, CausalSelfAttention):
            learns = back or any(parameter.requires_grad for parameter in layer.qkv.parameters())
            flops += 4 * layer.n_heads * model.head_dim * n_seen * (1 + 2 * learns)
        if isinstance(layer, Projection):
            flops += 2 * layer.matrix.numel() * (1 + back + layer.matrix.requires_grad)
        for parameter in layer.parameters(recurse=False):
            if isinstance(layer, nn.Linear) and parameter.ndim == 2:
                flops += 2 * parameter.numel() * (1 + back + parameter.requires_grad)
            back |= parameter.requires_grad
    return flops


@cache
def peak_flops(device: torch.device, precision: str) -> float:
    """FLOP/s of one device at best, known or measured; asked again it says the same.

    Args:
        precision: `bf16-mixed`, `32-true`, `tf32` ...: products are in what stands before the dash.
    """
    dtype = FORMATS[precision.split("-")[0]]
    known = KNOWN.get(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    name = precision if precision == "tf32" else str(dtype).removeprefix("torch.")
    return getattr(known, name, 0.0) or measure_peak(device, dtype)


def measure_peak(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of the fastest square product, each size twice the one before for as long as the time allows.

    Uses the threads that the run has, and none of its random numbers.
    """
    n, best, spent, last = 256, 0.0, 0.0, 0.0
    while n <= MAX_SIZE and spent + 8 * last < SECONDS:  # twice the size is eight times the work
        matrix = torch.linspace(-1, 1, n * n, device=device).reshape(n, n).to(dtype)
        fastest = min(_seconds(matrix) for _ in range(ROUNDS))
        best, last = max(best, 2 * n**3 / fastest), ROUNDS * fastest
        n, spent = 2 * n, spent + last
    return best


def _seconds(matrix: torch.Tensor) -> float:
    start = perf_counter()
    (matrix @ matrix)[0, 0].item()  # a number is read back when the product is done
    return perf_counter() - start
