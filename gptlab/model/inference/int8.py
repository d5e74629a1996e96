"""Weights in eight bits (after LLM.int8(), arXiv 2208.07339).

M rows, I inputs, O outputs
A matrix becomes whole numbers from -127 to 127 and one scale per row. Generating a token takes as long as reading the
weights, which take a quarter of float32's bytes. Only weights are rounded, not activations.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.model.inference.inference_weight import InferenceWeight, linear_layers, replace_weights
from gptlab.model.torch_internals import int8_linear

KERNEL_MAX_ROWS = 16  # up to this many, PyTorch's int8 kernel is faster than a product in bfloat16
KERNEL_INPUTS = 16  # the kernel reads this many inputs at a time, past the end if the width is no multiple
CHUNK_NUMEL = 1 << 18  # numbers rounded at once: they stay in the cache, and fit into memory that was just freed


class Int8Weight(InferenceWeight):
    """A matrix (O, I) in eight bits.

    Args:
        numbers: (O, I) int8.
        scales: (O,) bfloat16, as the kernel wants them.
        dtype: reported as the tensor's own, and used for the rows that an embedding looks up.
    """

    numbers: Tensor
    scales: Tensor

    @staticmethod
    def __new__(cls, numbers: Tensor, scales: Tensor, *, dtype: torch.dtype) -> "Int8Weight":
        """Return a tensor without storage that carries the numbers and scales."""
        weight: Int8Weight = cls.like(numbers, dtype=dtype)
        weight.numbers, weight.scales = numbers, scales
        return weight

    @classmethod
    def of(cls, weight: Tensor, *, dtype: torch.dtype) -> "Int8Weight":
        """Round a matrix, its rows scaled so that their largest is 127.

        (O, I) -> (O, I)
        """
        numbers = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
        scales = torch.empty(len(weight), dtype=torch.bfloat16, device=weight.device)
        step = max(1, CHUNK_NUMEL // weight.size(1))
        for start in range(0, len(weight), step):  # the float32 copy of a whole embedding would be the peak of memory
            rows = slice(start, start + step)
            part = weight[rows].detach().float()
            scales[rows] = (part.abs().amax(dim=1) / 127).clamp_min(1e-30)  # rounded first
            numbers[rows] = (part / scales[rows].float()[:, None]).round_().clamp_(-127, 127)
        return cls(numbers, scales, dtype=dtype)

    def product(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return x W^T + bias in the dtype of x.

        (..., I) -> (..., O)

        The kernel takes x in bfloat16, and only widths that are multiples of `KERNEL_INPUTS`.
        """
        rows = x.flatten(0, -2)  # (M, I)
        if x.device.type == "cpu" and len(rows) <= KERNEL_MAX_ROWS and rows.size(1) % KERNEL_INPUTS == 0:
            y = int8_linear(rows.to(torch.bfloat16).contiguous(), self.numbers, self.scales).to(x.dtype)  # (M, O)
        else:
            y = F.linear(rows, self.numbers.to(x.dtype)) * self.scales.to(x.dtype)
        return (y if bias is None else y + bias).view(*x.shape[:-1], -1)

    def rows(self, ids: Tensor) -> Tensor:
        """Return the rows with these indices.

        (...) -> (..., I)
        """
        return self.numbers[ids] * self.scales[ids, None].to(self.dtype)


@torch.no_grad()
def quantise(model: nn.Module, head: nn.Module, *outputs: nn.Module, rest: torch.dtype) -> None:
    """Round the weights of linear layers to eight bits, in place.

    Args:
        outputs: modules that project onto the vocabulary, rounded too.
        rest: the dtype of all other tensors of the model and the head.
    """
    replace_weights(linear_layers(model, outputs), lambda layer: Int8Weight.of(layer.weight, dtype=rest))  # type: ignore[arg-type]
    model.to(rest)  # after it, as casting a matrix first would round it twice
    head.to(rest)
