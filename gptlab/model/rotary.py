"""Rotary positions (RoFormer, arXiv 2104.09864).

A token's position rotates pairs of numbers in each of its queries and keys, so that their product depends on the
distance alone.   B batch, H heads, T tokens, K head size.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gptlab.errors import UserError
from gptlab.model.cpu_kernels import RotaryKernel

SCALINGS = {  # type -> the keys beside it
    "linear": {"factor"},
    "llama3": {"factor", "low_freq_factor", "high_freq_factor", "original_context_length"},
}


def check_scaling(scaling: Mapping[str, Any] | None) -> None:
    """Check the keys of a scaling.

    Raises:
        UserError: the type is unknown, or the keys are not exactly those of the type.
    """
    if scaling is not None and scaling.keys() - {"type"} != SCALINGS.get(scaling.get("type", "")):
        wanted = " or ".join(f"{{type: {kind}, {', '.join(sorted(keys))}}}" for kind, keys in SCALINGS.items())
        raise UserError(f"rope_scaling is {dict(scaling)}, wanted null, {wanted}")


def frequencies(
    head_dim: int, *, base: float, scaling: Mapping[str, Any] | None, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Return each pair's rotation, in radians per token.

    base^(-2i/K) for i in 0 .. K/2 - 1   -> (K/2,)

    Args:
        scaling: stretches a trained context. `{type: linear, factor}` divides every frequency (arXiv 2306.15595);
            `{type: llama3, factor, low_freq_factor, high_freq_factor, original_context_length}` only the slow ones.
    """
    freqs = base ** (-torch.arange(0, head_dim, 2, device=device, dtype=dtype) / head_dim)
    if scaling is None:
        return freqs
    if scaling["type"] == "linear":
        return freqs / scaling["factor"]
    turns = scaling["original_context_length"] * freqs / (2 * math.pi)  # full turns over the trained context
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    keep = ((turns - low) / (high - low)).clamp(0, 1)  # 1 for fast pairs, 0 for slow ones
    return freqs * (keep + (1 - keep) / scaling["factor"])


def rotary_cos_sin(
    positions: Tensor, head_dim: int, *, base: float, scaling: Mapping[str, Any] | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return the cosine and sine of each position's angles.

    (T,) -> 2 x (T, K/2);   (B, T) -> 2 x (B, 1, T, K/2)

    Args:
        dtype: the model's. Angles are float32 at least: bfloat16 cannot tell position 1000 from 1001.
    """
    at_least = torch.promote_types(dtype, torch.float32)
    freqs = frequencies(head_dim, base=base, scaling=scaling, device=positions.device, dtype=at_least)
    angles = positions[..., None] * freqs
    if positions.ndim == 2:
        angles = angles[:, None]  # one for all heads
    return angles.cos(), angles.sin()


def rotate_pairs(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each pair of numbers by its angle.

    (a, b) -> (a cos - b sin, b cos + a sin), with a and b the two halves of a head.
    (B, H, T, K) -> (B, H, T, K)
    """
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate queries or keys to their positions.

    (B, H, T, K) -> (B, H, T, K)
    """
    rotate = rotate_pairs if torch.compiler.is_compiling() else RotaryKernel.apply  # the compiler fuses the formula
    return rotate(x, cos.to(x.dtype), sin.to(x.dtype))
