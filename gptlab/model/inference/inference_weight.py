"""Weights in a form that is read faster than a matrix row after row, and that does not learn.   I inputs, O outputs."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class InferenceWeight(Tensor):
    """(O, I), which `F.linear` and `F.embedding` take in the place of the matrix it was made from, and nothing else."""

    @classmethod
    def like(cls, weight: Tensor, *, dtype: torch.dtype) -> Any:
        """A tensor by its shape, dtype and device; the numbers are its own attributes."""
        return cls._make_wrapper_subclass(cls, weight.shape, dtype=dtype, device=weight.device)

    def product(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """(..., I) -> (..., O)"""
        raise NotImplementedError

    def rows(self, ids: Tensor) -> Tensor:
        """(...) -> (..., I)"""
        raise NotImplementedError

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The two products; what only asks for the shape, the dtype or the device."""
        if func is F.linear:
            x, weight, *bias = args
            return weight.product(x, *bias, **(kwargs or {}))
        if func is F.embedding:
            ids, weight = args[:2]
            return weight.rows(ids)
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """Says what cannot be done."""
        raise NotImplementedError(f"{func} of a {cls.__name__}, which is for reading and writing, not for learning")


def linear_layers(model: nn.Module, outputs: Iterable[nn.Module]) -> list[nn.Module]:
    """The layers to stand in for: the model's linear ones, and those that project onto the vocabulary."""
    return [*(layer for layer in model.modules() if isinstance(layer, nn.Linear)), *outputs]


def replace_weights(layers: Iterable[nn.Module], make: Callable[[nn.Module], Tensor]) -> None:
    """Replaces the `weight` of each layer by what is made of it."""
    for layer in layers:
        weight = make(layer)
        del layer.weight
        layer.register_buffer("weight", weight)
