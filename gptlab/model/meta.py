"""Construction of models without allocating their weights."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from gptlab.model.torch_internals import draws_weights, replacing_parameters


@contextmanager
def meta_weights() -> Iterator[None]:
    """Put the parameters of modules built inside on the meta device.

    They have shapes, but take no memory and draw no random numbers. Buffers keep their values, because those outside
    the state dict could not be restored from a checkpoint.
    """
    with replacing_parameters(_on_meta), SkipInit():
        yield


def materialize(module: nn.Module, *, dtype: torch.dtype, device: str) -> None:
    """Allocate uninitialised memory for every tensor of a module's state dict.

    The caller fills it.
    """
    shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
    empty = {name: torch.empty(shape, dtype=dtype, device=device) for name, shape in shapes.items()}
    module.load_state_dict(empty, assign=True)


def _on_meta(parameter: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)


class SkipInit(TorchFunctionMode):
    """Make the random functions of torch.nn.init no-ops.

    On the meta device they would cost a second of imports.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if draws_weights(func):
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))
