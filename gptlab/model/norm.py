"""LayerNorm and RMSNorm.   D the normalised size."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.model.cpu_kernels import RMSNormKernel, prefers_rms_norm_kernel

NormKind = Literal["layer", "rms"]


class RMSNorm(nn.RMSNorm):
    """x / sqrt(mean(x^2) + eps) * weight (arXiv 1910.07467).

    (..., D) -> (..., D)
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise in the precision of x; sums are at least float32."""
        weight = self.weight.to(x.dtype)  # under autocast x is bfloat16, and the fused kernel wants one dtype
        if prefers_rms_norm_kernel(x):
            return RMSNormKernel.apply(x, weight, self.eps)
        return F.rms_norm(x, self.normalized_shape, weight, self.eps)


def make_norm(kind: NormKind, size: int, *, eps: float, bias: bool) -> nn.Module:
    """Build a norm by name; only LayerNorm has a bias."""
    return nn.LayerNorm(size, eps, bias=bias) if kind == "layer" else RMSNorm(size, eps)
