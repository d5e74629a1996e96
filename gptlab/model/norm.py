"""The two norms of the field.   D the normalised size."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.model.cpu_kernels import RMSNormKernel

NormKind = Literal["layer", "rms"]


class RMSNorm(nn.RMSNorm):
    """x / sqrt(mean(x^2) + eps) * weight (arXiv 1910.07467), in the input's own precision.   (..., D) -> (..., D)"""

    def forward(self, x: Tensor) -> Tensor:
        """The weight follows x, so that autocast's bfloat16 meets the fused kernel; sums are float32 inside it."""
        weight = self.weight.to(x.dtype)
        if x.device.type == "cpu" and x.itemsize >= 4 and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return RMSNormKernel.apply(x, weight, self.eps)
        return F.rms_norm(x, self.normalized_shape, weight, self.eps)


def make_norm(kind: NormKind, size: int, *, eps: float, bias: bool) -> nn.Module:
    """The norm of that name; `bias` is LayerNorm's only."""
    return nn.LayerNorm(size, eps, bias=bias) if kind == "layer" else RMSNorm(size, eps)
