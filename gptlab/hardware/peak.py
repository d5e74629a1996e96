"""Peak throughput of a device in matrix products."""

from functools import cache
from time import perf_counter
from typing import NamedTuple

import torch


class Peak(NamedTuple):
    """Peak FLOP/s of dense matrix products, by number format.

    0 means that the hardware has no units for the format.
    """

    bfloat16: float
    float16: float
    tf32: float
    float32: float


# From NVIDIA's data sheets, of GeForce from the whitepapers of GA102, AD102 and GB202. 16-bit formats are those of the
# tensor cores with sums in float32, `float32` is without tensor cores. From Ampere on, data sheets also print twice the
# number, which holds for sparse matrices only; of GeForce, twice that again, with sums in float16.
A100 = Peak(312e12, 312e12, 156e12, 19.5e12)
H100 = Peak(989e12, 989e12, 494e12, 67e12)
# Keyed by the full name that torch reports. A MIG slice or another board has another name, and is measured.
PEAKS = {
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
    "NVIDIA A10G": Peak(70e12, 70e12, 35e12, 31.5e12),
    "NVIDIA L4": Peak(121e12, 121e12, 60e12, 30.3e12),
    "NVIDIA L40S": Peak(362e12, 362e12, 183e12, 91.6e12),
    "NVIDIA GeForce RTX 3090": Peak(71e12, 71e12, 35.6e12, 35.6e12),
    "NVIDIA GeForce RTX 4090": Peak(165.2e12, 165.2e12, 82.6e12, 82.6e12),
    "NVIDIA GeForce RTX 5090": Peak(209.5e12, 209.5e12, 104.8e12, 104.8e12),
    "NVIDIA H100 80GB HBM3": H100,
    "NVIDIA H100 PCIe": Peak(756e12, 756e12, 378e12, 51e12),
    "NVIDIA H200": H100,
    "NVIDIA B200": Peak(2250e12, 2250e12, 1125e12, 75e12),
}
FORMATS = {"bf16": torch.bfloat16, "16": torch.float16, "tf32": torch.float32, "32": torch.float32, "64": torch.float64}
MEASUREMENT_SECONDS = 0.25  # about how long a measurement takes
N_ROUNDS = 5  # products of each size
MAX_SIZE = 8192  # rows of the largest matrix


@cache
def peak_flops(device: torch.device, precision: str) -> float:
    """Return the peak FLOP/s of one device, known or measured.

    The result is cached, so that a run uses one number throughout.

    Args:
        precision: `bf16-mixed`, `32-true`, `tf32` ...: products are computed in the format before the dash.
    """
    dtype = FORMATS[precision.split("-")[0]]
    known = PEAKS.get(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    name = precision if precision == "tf32" else str(dtype).removeprefix("torch.")
    return getattr(known, name, 0.0) or measure_peak(device, dtype)


def measure_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Return the FLOP/s of the fastest square product.

    Sizes double for as long as the time allows. Uses the run's threads, but not its random numbers.
    """
    n, best, spent, last = 256, 0.0, 0.0, 0.0
    while n <= MAX_SIZE and spent + 8 * last < MEASUREMENT_SECONDS:  # twice the size is eight times the work
        matrix = torch.linspace(-1, 1, n * n, device=device).reshape(n, n).to(dtype)
        fastest = min(_seconds(matrix) for _ in range(N_ROUNDS))
        best, last = max(best, 2 * n**3 / fastest), N_ROUNDS * fastest
        n, spent = 2 * n, spent + last
    return best


def _seconds(matrix: torch.Tensor) -> float:
    start = perf_counter()
    (matrix @ matrix)[0, 0].item()  # reading a number back waits for the product
    return perf_counter() - start
