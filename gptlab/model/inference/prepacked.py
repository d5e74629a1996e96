"""Weights prepacked into oneDNN's own layout, for a CPU.

I inputs, O outputs
PyTorch's product of a few rows with a row-major matrix reads memory at half of its speed; with a prepacked one it reads
at full speed (python -m tests.benchmarks.generation).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.model.inference.inference_weight import InferenceWeight, linear_layers, replace_weights
from gptlab.model.torch_internals import has_prepacked_linear, prepack_linear, prepacked_linear

LAYOUT_ROWS = 8  # input rows that oneDNN chooses the layout for; it is no slower with more or fewer


class PrepackedWeight(InferenceWeight):
    """A matrix (O, I) in oneDNN's layout, its numbers unchanged.

    Args:
        weight: (O, I), on a CPU.
        dtype: float32 or bfloat16, the format of products.
        looked_up: whether the matrix is also an embedding; it is then kept row-major too.
    """

    prepacked: Tensor
    table: Tensor | None

    @staticmethod
    def __new__(cls, weight: Tensor, *, dtype: torch.dtype, looked_up: bool) -> "PrepackedWeight":
        """Return a tensor without storage that carries the prepacked matrix."""
        tensor: PrepackedWeight = cls.like(weight, dtype=weight.dtype)
        tensor.prepacked = prepack_linear(weight.detach().to(dtype), n_rows=LAYOUT_ROWS)
        tensor.table = weight.detach() if looked_up else None
        return tensor

    def product(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return x W^T + bias in the format of products.

        (..., I) -> (..., O)
        """
        dtype = self.prepacked.dtype
        return prepacked_linear(x.to(dtype), self.prepacked, None if bias is None else bias.to(dtype))

    def rows(self, ids: Tensor) -> Tensor:
        """Return the rows with these indices.

        (...) -> (..., I)
        """
        assert self.table is not None
        return F.embedding(ids, self.table)


@torch.no_grad()
def prepack(model: nn.Module, *outputs: nn.Module, dtype: torch.dtype) -> None:
    """Prepack the weights of linear layers, in place.

    Weights for which oneDNN has no kernel here stay as they are.

    Args:
        outputs: modules that project onto the vocabulary, prepacked too.
        dtype: the format of products: autocast's, or the weights' own.
    """
    if not has_prepacked_linear(dtype):
        return

    def prepacked(layer: nn.Module) -> Tensor:
        weight: Any = layer.weight
        return PrepackedWeight(weight, dtype=dtype, looked_up=isinstance(layer, nn.Embedding))

    layers = linear_layers(model, outputs)
    plain = (layer for layer in layers if type(layer.weight) is nn.Parameter and layer.weight.device.type == "cpu")
    replace_weights(plain, prepacked)
