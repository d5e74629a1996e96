"""Inference-only weight layouts, faster to read than row-major.

I inputs, O outputs.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.model.torch_internals import without_torch_function, wrapper_tensor


class InferenceWeight(Tensor):
    """A matrix (O, I) that only `F.linear` and `F.embedding` accept.

    A subclass stores the matrix in its own attributes, and implements `product` and `rows`.
    """

    @classmethod
    def like(cls, weight: Tensor, *, dtype: torch.dtype) -> Any:
        """Return an instance with the shape and device of a weight."""
        return wrapper_tensor(cls, weight.shape, dtype=dtype, device=weight.device)

    def product(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return x W^T + bias.

        (..., I) -> (..., O)
        """
        raise NotImplementedError

    def rows(self, ids: Tensor) -> Tensor:
        """Return the rows with these indices.

        (...) -> (..., I)
        """
        raise NotImplementedError

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Handle the two functions; let reads of shape, dtype or device through."""
        if func is F.linear:
            x, weight, *bias = args
            return weight.product(x, *bias, **(kwargs or {}))
        if func is F.embedding:
            ids, weight = args[:2]
            return weight.rows(ids)
        with without_torch_function():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """Refuse every other operation."""
        raise NotImplementedError(
            f"{func} of a {cls.__name__}, which has F.linear and F.embedding only: its model can generate, not train"
        )


def linear_layers(model: nn.Module, outputs: Iterable[nn.Module]) -> list[nn.Module]:
    """Return a model's linear layers, then those that project onto the vocabulary."""
    return [*(layer for layer in model.modules() if isinstance(layer, nn.Linear)), *outputs]


def replace_weights(layers: Iterable[nn.Module], make: Callable[[nn.Module], Tensor]) -> None:
    """Replace each layer's `weight` by `make(layer)`."""
    for layer in layers:
        weight = make(layer)
        del layer.weight
        layer.register_buffer("weight", weight)
