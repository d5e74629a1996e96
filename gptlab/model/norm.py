"""The two norms of the field.   D the normalised size."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

NormKind = Literal["layer", "rms"]


class RMSNorm(nn.RMSNorm):
    """x / sqrt(mean(x^2) + eps) * weight (arXiv 1910.07467), in the input's own precision.   (..., D) -> (..., D)"""

    def forward(self, x: Tensor) -> Tensor:
        """The weight follows x, so that autocast's bfloat16 meets the fused kernel; sums are float32 inside it."""
        weight = self.weight.to(x.dtype)
        if x.device.type == "cpu" and x.itemsize >= 4 and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return _RMSNorm.apply(x, weight, self.eps)
        return F.rms_norm(x, self.normalized_shape, weight, self.eps)


class _RMSNorm(torch.autograd.Function):
    """The same on a CPU, where torch has no kernel for the gradient and takes twice as long to put it together.

    n = r x with r = 1 / sqrt(mean(x^2) + eps), y = n w:   dw = sum of dy n,   dx = r (dy w - n mean(dy w n))
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        r = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.size(-1)).add_(eps).rsqrt_()  # (..., 1)
        ctx.save_for_backward(x, weight, r)
        return (x * r).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None]:
        (dy,), (x, weight, r) = grads, ctx.saved_tensors
        n = x * r
        product = (dy * n).flatten(0, -2)  # (rows, D)
        mean = (product @ weight).view_as(r) / x.size(-1)
        d_weight = product.sum(0) if ctx.needs_input_grad[1] else None
        return torch.addcmul(dy * weight, n, mean, value=-1).mul_(r), d_weight, None


def make_norm(kind: NormKind, size: int, *, eps: float, bias: bool) -> nn.Module:
    """The norm of that name; `bias` is LayerNorm's only."""
    return nn.LayerNorm(size, eps, bias=bias) if kind == "layer" else RMSNorm(size, eps)
