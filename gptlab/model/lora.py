"""Low-rank adapters (LoRA, arXiv 2106.09685).

Two thin matrices are trained beside a large one that is frozen.

I inputs and O outputs of a linear layer, R rank.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.model.gpt import GPT
from gptlab.model.init import initialise_adapter
from gptlab.model.linear import Linear
from gptlab.model.meta import meta_weights


def low_rank(a: Tensor, b: Tensor, *, alpha: float) -> Tensor:
    """(alpha / R) B A, in float32 or wider.

    (R, I), (O, R) -> (O, I)
    """
    dtype = torch.promote_types(a.dtype, torch.float32)
    return alpha / len(a) * (b.to(dtype) @ a.to(dtype))


class LoRALinear(Linear):
    """W x + bias + (alpha / R) B A drop(x).

    (..., I) -> (..., O)

    It takes the place of a linear layer, and its W and bias keep their names.

    Args:
        linear: the layer; the two share their parameters.
        alpha: the adapter's scale. It is divided by R, so that one learning rate suits every rank.
        drop_rate: dropout on the adapter's input only.
        dtype: of the adapter; W may be stored in a narrower one.
    """

    def __init__(self, linear: nn.Linear, *, rank: int, alpha: float, drop_rate: float, dtype: torch.dtype) -> None:
        with meta_weights():
            super().__init__(linear.in_features, linear.out_features, bias=linear.bias is not None)
        self.weight, self.bias = linear.weight, linear.bias
        self.lora_a = nn.Parameter(linear.weight.new_empty(rank, linear.in_features, dtype=dtype))
        self.lora_b = nn.Parameter(linear.weight.new_empty(linear.out_features, rank, dtype=dtype))
        initialise_adapter(self.lora_a, self.lora_b)
        self.rank, self.alpha, self.drop_rate, self.enabled = rank, alpha, drop_rate, True
        self.train(linear.training)

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., O)"""
        y = super().forward(x)
        if not self.enabled:
            return y
        thin = F.linear(F.dropout(x, self.drop_rate, self.training), self.lora_a)  # (..., R)
        return y + F.linear(thin, self.alpha / self.rank * self.lora_b)


def layer_names(model: GPT) -> list[str]:
    """Return the names of a block's linear layers, such as `attention.qkv`.

    All blocks have the same layers.
    """
    return [name for name, layer in model.blocks[0].named_modules() if isinstance(layer, nn.Linear)]


def adapt(model: GPT, layers: list[str], *, rank: int, alpha: float, drop_rate: float) -> None:
    """Add an adapter to these layers of every block.

    The model's output does not change until the adapters are trained.

    Args:
        layers: names as `layer_names` returns them.
    """
    options: dict[str, Any] = {"rank": rank, "alpha": alpha, "drop_rate": drop_rate, "dtype": model.dtype}
    for block in model.blocks:
        for name in layers:
            linear = block.get_submodule(name)
            assert isinstance(linear, nn.Linear)
            block.set_submodule(name, LoRALinear(linear, **options))


def adapters(model: nn.Module) -> dict[str, LoRALinear]:
    """Return the layers with an adapter by their names in the model."""
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, LoRALinear)}


@torch.no_grad()
def merge(model: nn.Module) -> None:
    """Merge every adapter into its weight, in place.

    W becomes W + (alpha / R) B A, in the wider format of the two. The layers have no adapter any more. A model without
    adapters stays as it is.
    """
    for name, layer in adapters(model).items():
        layer.weight.data = layer.weight.to(torch.promote_types(layer.weight.dtype, layer.lora_a.dtype))
        layer.weight += low_rank(layer.lora_a, layer.lora_b, alpha=layer.alpha)
        with meta_weights():
            plain = Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
        plain.weight, plain.bias = layer.weight, layer.bias
        model.set_submodule(name, plain.train(layer.training))


@contextmanager
def adapter_off(model: nn.Module) -> Iterator[None]:
    """Disable all adapters within the context."""
    layers = [layer for layer in adapters(model).values() if layer.enabled]
    for layer in layers:
        layer.enabled = False
    try:
        yield
    finally:
        for layer in layers:
            layer.enabled = True
