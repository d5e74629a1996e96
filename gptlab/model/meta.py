"""Construction of models without allocating their weights."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from gptlab.model.linear import AnyFormat, narrower
from gptlab.model.torch_internals import draws_weights, replacing_parameters


@contextmanager
def meta_weights() -> Iterator[None]:
    """Put the parameters of modules built inside on the meta device.

    They have shapes, but take no memory and draw no random numbers. Buffers keep their values, because those outside
    the state dict could not be restored from a checkpoint.
    """
    with replacing_parameters(_on_meta), SkipInit():
        yield


def materialize(module: nn.Module, *, matrices: torch.dtype, rest: torch.dtype, device: str) -> None:
    """Allocate uninitialised memory for a module's tensors on the meta device.

    The caller fills it.

    Args:
        matrices: dtype of weights with two dimensions.
        rest: dtype of norms and biases.
    """
    shapes = {name: tensor.shape for name, tensor in module.state_dict().items() if tensor.is_meta}
    empty = {
        name: torch.empty(shape, dtype=matrices if len(shape) == 2 else rest, device=device)
        for name, shape in shapes.items()
    }
    module.load_state_dict(empty, strict=False, assign=True)


def materialize_base(model: nn.Module, head: nn.Module, *, stored: torch.dtype, rest: torch.dtype) -> None:
    """Allocate a model and its head for base weights, most of which stay frozen.

    Args:
        stored: dtype of the base. Matrices have it if it is the narrower one, and their module multiplies any format.
        rest: dtype of all other tensors, and of what will be trained.
    """
    for part in (model, *(part for part in head.modules() if isinstance(part, AnyFormat))):
        materialize(part, matrices=narrower(stored, rest), rest=rest, device="cpu")
    materialize(head, matrices=rest, rest=rest, device="cpu")


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
