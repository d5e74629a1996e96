"""Rotary positions (RoFormer, arXiv 2104.09864): a position turns pairs of a head's numbers.   T tokens, K head."""

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
    """A UserError unless the scaling is None or names a type and exactly its keys."""
    if scaling is not None and scaling.keys() - {"type"} != SCALINGS.get(scaling.get("type", "")):
        wanted = " or ".join(f"{{type: {kind}, {', '.join(sorted(keys))}}}" for kind, keys in SCALINGS.items())
        raise UserError(f"rope_scaling is {dict(scaling)}, wanted null, {wanted}")


def frequencies(
    head_dim: int, *, base: float, scaling: Mapping[str, Any] | None, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """base^(-2i/K) for i in 0 .. K/2 - 1: radians a token, one for each pair.   -> (K/2,)

    Args:
        scaling: stretches a trained context. `{type: linear, factor}` divides every frequency (arXiv 2306.15595);
            `{type: llama3, factor, low_freq_factor, high_freq_factor, original_context_length}` only the slow ones.
    """
    freqs = base ** (-torch.arange(0, head_dim, 2, device=device, dtype=dtype) / head_dim)
    if scaling is None:
        return freqs
    if scaling["type"] == "linear":
        return freqs / scaling["factor"]
    turns = scaling["original_context_length"] * freqs / (2 * math.pi)  # over the context that was trained
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    keep = ((turns - low) / (high - low)).clamp(0, 1)  # 1 for fast pairs, 0 for slow ones
    return freqs * (keep + (1 - keep) / scaling["factor"])


def rotary_cos_sin(
    positions: Tensor, head_dim: int, *, base: float, scaling: Mapping[str, Any] | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Cosine and sine of each position's angles.   (T,) -> 2 x (T, K/2); (B, T) -> 2 x (B, 1, T, K/2)

    Args:
        dtype: the model's; the angles are never less than float32, in which a thousand still has its decimals.
    """
    at_least = torch.promote_types(dtype, torch.float32)
    freqs = frequencies(head_dim, base=base, scaling=scaling, device=positions.device, dtype=at_least)
    angles = positions[..., None] * freqs
    if positions.ndim == 2:
        angles = angles[:, None]  # the heads' dimension
    return angles.cos(), angles.sin()


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """(a, b) -> (a cos - b sin, b cos + a sin), a and b the two halves of a head.   (B, H, T, K) -> (B, H, T, K)"""
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    if torch.compiler.is_compiling():  # it makes one loop of the formula
        a, b = x.chunk(2, dim=-1)
        return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)
    return RotaryKernel.apply(x, cos, sin)
