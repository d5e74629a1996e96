"""Autograd functions that save memory traffic on a CPU; the formulas stand where they are used."""

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint


class ReLU2Kernel(torch.autograd.Function):
    """d/dx max(x, 0)^2 = 2 max(x, 0): one product where autograd chains a power and a threshold, to the same bits."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        r = F.relu(x)
        ctx.save_for_backward(r)
        return r * r

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (r,) = ctx.saved_tensors
        return (grad * r).mul_(2)


# Numbers in a hidden layer from which keeping it costs more than computing it again: of GPT-2's training step with 8
# rows of 256 tokens that is a hundredth of the time, for a twelfth of the memory.
RECOMPUTE_NUMEL = 2**22


def project(out: nn.Linear, activate: Callable[..., Tensor], *x: Tensor) -> Tensor:
    """out(activate(*x)); where activate(*x) is large, the gradient of `out` has it made again instead of kept.

    x (B, T, F) each -> (B, T, D). The compiler decides by itself what to keep.
    """
    compiled = torch.compiler.is_compiling()
    if compiled or x[0].numel() < RECOMPUTE_NUMEL or not (torch.is_grad_enabled() and out.weight.requires_grad):
        return out(activate(*x))
    # it stops once all that the gradient asks for is there: before the product
    again = checkpoint(lambda *x: out(activate(*x)), *x, use_reentrant=False, preserve_rng_state=False)
    return cast(Tensor, again)


class RMSNormKernel(torch.autograd.Function):
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


class RotaryKernel(torch.autograd.Function):
    """The gradient of a turn is the turn back: autograd would keep a product for each term of it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turned(grads[0], cos, -sin), None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """In place of what is to come: no product is written anywhere else."""
    a, b = x.chunk(2, dim=-1)
    turned = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    first, second = turned.chunk(2, dim=-1)
    torch.mul(a, cos, out=first).addcmul_(b, sin, value=-1)
    torch.mul(b, cos, out=second).addcmul_(a, sin)
    return turned
