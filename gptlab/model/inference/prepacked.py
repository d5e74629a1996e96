"""Weights as the CPU's kernels want them: oneDNN's own order instead of one row after the other.

PyTorch's product of a few rows with a matrix reads memory at half the rate that it can be read at; with the matrix laid
out beforehand it does not:   python -m tests.benchmarks.generation     I inputs, O outputs.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.model.inference.inference_weight import InferenceWeight, linear_layers, replace_weights

KERNEL_MAX_ROWS = 8  # rows that the order is chosen for; it is no slower for more or fewer


class PrepackedWeight(InferenceWeight):
    """(O, I), the same numbers in another order.

    Args:
        weight: (O, I), on a CPU.
        dtype: float32 or bfloat16, which products are in.
        looked_up: it is an embedding too, of which rows are wanted: it is kept as it was beside.
    """

    packed: Tensor
    table: Tensor | None

    @staticmethod
    def __new__(cls, weight: Tensor, *, dtype: torch.dtype, looked_up: bool) -> "PrepackedWeight":
        """A tensor by its shape, dtype and device."""
        made: PrepackedWeight = cls.like(weight, dtype=weight.dtype)
        made.packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().to(dtype), KERNEL_MAX_ROWS)
        made.table = weight.detach() if looked_up else None
        return made

    def product(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """(..., I) -> (..., O)"""
        dtype = self.packed.dtype
        bias = None if bias is None else bias.to(dtype)
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x.to(dtype), self.packed, bias, "none", [], "")
        return y

    def rows(self, ids: Tensor) -> Tensor:
        """(...) -> (..., I)"""
        assert self.table is not None
        return F.embedding(ids, self.table)


def has_kernels(dtype: torch.dtype) -> bool:
    """Whether PyTorch was built with oneDNN, and that multiplies in this format here."""
    ops = torch.ops.mkldnn
    there = torch.backends.mkldnn.is_available() and hasattr(ops, "_reorder_linear_weight")
    return there and (dtype == torch.float32 or (dtype == torch.bfloat16 and ops._is_mkldnn_bf16_supported()))


@torch.no_grad()
def prepack(model: nn.Module, *outputs: nn.Module, dtype: torch.dtype) -> None:
    """Packs the weights of the model's linear layers and of the `outputs`; what there are no kernels for stays.

    Args:
        dtype: which products are in, of autocast or the weights' own.
    """
    if not has_kernels(dtype):
        return

    def packed(layer: nn.Module) -> Tensor:
        weight: Any = layer.weight
        return PrepackedWeight(weight, dtype=dtype, looked_up=isinstance(layer, nn.Embedding))

    layers = linear_layers(model, outputs)
    plain = (layer for layer in layers if type(layer.weight) is nn.Parameter and layer.weight.device.type == "cpu")
    replace_weights(plain, packed)
