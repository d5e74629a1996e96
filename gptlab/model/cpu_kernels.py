"""Autograd functions that save memory traffic on a CPU.

Each computes a formula that is written out where it is used (norm.py, rotary.py, feed_forward.py), with a gradient
derived by hand.   B batch, T tokens, D embedding, F hidden, H heads, K head size.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint


class ReLU2Kernel(torch.autograd.Function):
    """max(x, 0)^2, whose derivative is 2 max(x, 0).

    (...) -> (...)

    The gradient is one product. Autograd would compute a power and a threshold, with the same bits as result.
    """

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


class RMSNormKernel(torch.autograd.Function):
    """x / sqrt(mean(x^2) + eps) * w, over the last dimension.

    (..., D), (D,) -> (..., D)

    With r = 1 / sqrt(mean(x^2) + eps) and n = r x:   y = n w,   dw = sum of dy n,   dx = r (dy w - n mean(dy w n)).
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


def prefers_rms_norm_kernel(x: Tensor) -> bool:
    """Return whether `RMSNormKernel` is faster than torch's own norm.

    On a CPU torch has no kernel for the gradient, and composing it takes twice as long.
    """
    return x.device.type == "cpu" and x.itemsize >= 4 and torch.is_grad_enabled() and not torch.compiler.is_compiling()


class RotaryKernel(torch.autograd.Function):
    """Rotates pairs of numbers, see `rotate_pairs` in rotary.py.

    (B, H, T, K), 2 x (..., T, K/2) -> (B, H, T, K)

    The gradient of a rotation is the rotation back; autograd would keep a product for each of the four terms.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotated(x, cos, sin)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _rotated(grads[0], cos, -sin), None, None


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate, writing the products straight into the result."""
    a, b = x.chunk(2, dim=-1)
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    first, second = y.chunk(2, dim=-1)
    torch.mul(a, cos, out=first).addcmul_(b, sin, value=-1)
    torch.mul(b, cos, out=second).addcmul_(a, sin)
    return y


# Size of a hidden layer from which keeping it costs more than recomputing it. In GPT-2's training step, with 8
# rows of 256 tokens, recomputing takes a hundredth of the time and saves a twelfth of the memory.
RECOMPUTE_NUMEL = 2**22


def recompute_linear(out: nn.Linear, activate: Callable[..., Tensor], *x: Tensor) -> Tensor:
    """Return out(activate(*x)), recomputing a large activation in backward.

    (B, T, F) each -> (B, T, D)

    Only the gradient of `out.weight` needs activate(*x). Nothing is recomputed without that gradient, or under the
    compiler, which decides itself what to keep.
    """
    compiled = torch.compiler.is_compiling()
    if compiled or x[0].numel() < RECOMPUTE_NUMEL or not (torch.is_grad_enabled() and out.weight.requires_grad):
        return out(activate(*x))
    # checkpoint stops recomputing once it has every tensor that the gradient needs: the product is not repeated
    y = checkpoint(lambda *x: out(activate(*x)), *x, use_reentrant=False, preserve_rng_state=False)
    return cast(Tensor, y)
