"""Linear layers whose frozen weight may be stored in another format than it is multiplied in.

I inputs, O outputs.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from gptlab.model.inference.inference_weight import InferenceWeight


class AnyFormat:
    """Marks a module that multiplies by `linear`, so that its matrix may have any floating-point format."""


class Linear(AnyFormat, nn.Linear):
    """x W^T + bias.

    (..., I) -> (..., O)
    """

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., O)"""
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x W^T + bias in the dtype of products.

    (..., I), (O, I), (O,) -> (..., O)

    A frozen weight of another format is cast for its product, and again for the gradient of x: no copy of it waits for
    the backward pass in between.
    """
    if (
        weight.requires_grad
        or isinstance(weight, InferenceWeight)
        or weight.dtype == (dtype := product_dtype(x, weight))
    ):
        return F.linear(x, weight, bias)
    x, bias = x.to(dtype), None if bias is None else bias.to(dtype)
    if torch.compiler.is_compiling() or not (torch.is_grad_enabled() and x.requires_grad):
        return F.linear(x, weight.to(dtype), bias)  # a compiler decides itself what to keep
    return FrozenProduct.apply(x, weight, bias)


def product_dtype(x: Tensor, weight: Tensor) -> torch.dtype:
    """Return the dtype of products: autocast's, which leaves float64 alone, or the wider one of x and the weight."""
    device = x.device.type
    if torch.is_autocast_enabled(device) and x.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return torch.promote_types(x.dtype, weight.dtype)


def narrower(one: torch.dtype, other: torch.dtype) -> torch.dtype:
    """Return the dtype with fewer bytes, the second if they have as many."""
    return one if one.itemsize < other.itemsize else other


class FrozenProduct(torch.autograd.Function):
    """x W^T + bias, whose gradient is that of x and of the bias.

    (..., I), (O, I), (O,) -> (..., O)

    W is cast to the dtype of x. It is kept for the backward pass as it is stored, not as it was cast.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return F.linear(x, weight.to(x.dtype), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        (dy,), (weight,) = grads, ctx.saved_tensors
        rows = dy.flatten(0, -2)
        dx = (rows @ weight.to(dy.dtype)).view(*dy.shape[:-1], -1) if ctx.needs_input_grad[0] else None
        return dx, None, rows.sum(0) if ctx.needs_input_grad[2] else None
