"""Weights in eight bits: a matrix as whole numbers from -127 to 127 and one scale a row (LLM.int8(), arXiv 2208.07339).

A token is written as fast as its weights can be read, and these are a quarter of float32's. Only they are rounded, not
what they are multiplied with.   M rows, I inputs, O outputs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.model.inference.inference_weight import InferenceWeight, linear_layers, replace_weights

KERNEL_MAX_ROWS = 16  # rows up to which PyTorch's kernel is faster than a product in bfloat16


class Int8Weight(InferenceWeight):
    """(O, I), rounded.

    Args:
        numbers: (O, I) int8.
        scales: (O,) bfloat16, as the kernel wants them.
        dtype: of what is looked up.
    """

    numbers: Tensor
    scales: Tensor

    @staticmethod
    def __new__(cls, numbers: Tensor, scales: Tensor, *, dtype: torch.dtype) -> "Int8Weight":
        """A tensor by its shape, dtype and device."""
        made: Int8Weight = cls.like(numbers, dtype=dtype)
        made.numbers, made.scales = numbers, scales
        return made

    @classmethod
    def of(cls, weight: Tensor, *, dtype: torch.dtype) -> "Int8Weight":
        """The nearest: each row's largest number becomes 127.   (O, I) -> (O, I)"""
        weight = weight.detach().float()
        scales = (weight.abs().amax(dim=1) / 127).clamp_min(1e-30).to(torch.bfloat16)  # rounded before it is divided by
        numbers = (weight / scales.float()[:, None]).round_().clamp_(-127, 127).to(torch.int8)
        return cls(numbers, scales, dtype=dtype)

    def product(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """(..., I) -> (..., O) in x's dtype; the kernel, which takes x in bfloat16, and the product come to the same
        sums, rounded at the end."""
        rows = x.flatten(0, -2)  # (M, I)
        if x.device.type == "cpu" and len(rows) <= KERNEL_MAX_ROWS:
            kernel = torch._weight_int8pack_mm(rows.to(torch.bfloat16).contiguous(), self.numbers, self.scales)
            y = kernel.to(x.dtype)
        else:
            y = F.linear(rows, self.numbers.to(x.dtype)) * self.scales.to(x.dtype)
        return (y if bias is None else y + bias).view(*x.shape[:-1], -1)

    def rows(self, ids: Tensor) -> Tensor:
        """(...) -> (..., I)"""
        return self.numbers[ids] * self.scales[ids, None].to(self.dtype)


@torch.no_grad()
def quantise(model: nn.Module, head: nn.Module, *outputs: nn.Module, rest: torch.dtype) -> None:
    """The weights of the model's linear layers and of the `outputs` in eight bits; all else of both in `rest`."""
    layers = linear_layers(model, outputs)
    weights = {layer: Int8Weight.of(layer.weight, dtype=rest) for layer in layers}  # type: ignore[arg-type]  # rounded once
    model.to(rest)
    head.to(rest)
    replace_weights(layers, weights.__getitem__)
