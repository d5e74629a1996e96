"""Weights in eight bits: a matrix as whole numbers from -127 to 127 and one scale a row (LLM.int8(), arXiv 2208.07339).

A token is written as fast as its weights can be read, and these are a quarter of float32's. Only they are rounded, not
what they are multiplied with.   M rows, I inputs, O outputs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.model.stand_in import StandIn, replaceable, stand_in

FEW = 16  # rows up to which PyTorch's kernel is faster than a product in bfloat16


class Int8Weight(StandIn):
    """(O, I), rounded.

    Args:
        numbers: (O, I) int8.
        scales: (O,), of the dtype the product is in.
    """

    numbers: Tensor
    scales: Tensor

    @staticmethod
    def __new__(cls, numbers: Tensor, scales: Tensor) -> "Int8Weight":
        """A tensor by its shape, dtype and device."""
        made: Int8Weight = cls.like(numbers, dtype=scales.dtype)
        made.numbers, made.scales = numbers, scales
        return made

    @classmethod
    def of(cls, weight: Tensor) -> "Int8Weight":
        """The nearest: each row's largest number becomes 127.   (O, I) -> (O, I)"""
        weight = weight.detach().float()
        scales = (weight.abs().amax(dim=1) / 127).clamp_min(1e-30).to(torch.bfloat16)  # rounded before it is divided by
        return cls((weight / scales.float()[:, None]).round_().clamp_(-127, 127).to(torch.int8), scales)

    def product(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """(..., I) -> (..., O); the kernel and the product come to the same sums, rounded at the end."""
        rows = x.flatten(0, -2)  # (M, I)
        if x.device.type == "cpu" and len(rows) <= FEW:
            y = torch._weight_int8pack_mm(rows.contiguous(), self.numbers, self.scales)
        else:
            y = F.linear(rows, self.numbers.to(x.dtype)) * self.scales
        return (y if bias is None else y + bias).view(*x.shape[:-1], -1)

    def rows(self, ids: Tensor) -> Tensor:
        """(...) -> (..., I)"""
        return self.numbers[ids] * self.scales[ids, None]


@torch.no_grad()
def quantise(model: nn.Module, head: nn.Module, *outputs: nn.Module) -> None:
    """The weights of the model's linear layers and of the `outputs` in eight bits; all else of both in bfloat16."""
    layers = replaceable(model, outputs)
    weights = {layer: Int8Weight.of(layer.weight) for layer in layers}  # type: ignore[arg-type]  # each number rounded once
    model.to(torch.bfloat16)
    head.to(torch.bfloat16)
    stand_in(layers, weights.__getitem__)
