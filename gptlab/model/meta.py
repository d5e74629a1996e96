"""Models without numbers, to be filled."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode


@contextmanager
def meta_weights() -> Iterator[None]:
    """Parameters that are built inside have shapes only, take no memory, and draw no random numbers.

    Buffers have their values: those that are no part of a checkpoint come from nowhere else.
    """
    hook = register_module_parameter_registration_hook(_without_numbers)  # type: ignore[arg-type]  # it may return one
    try:
        with SkipInit():
            yield
    finally:
        hook.remove()


def materialize(module: nn.Module, *, dtype: torch.dtype, device: str) -> None:
    """Room for its weights, with whatever lies there; the numbers are the caller's to bring."""
    shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
    rooms = {name: torch.empty(shape, dtype=dtype, device=device) for name, shape in shapes.items()}
    module.load_state_dict(rooms, assign=True)


def _without_numbers(module: nn.Module, name: str, parameter: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)


class SkipInit(TorchFunctionMode):
    """Leaves out what gives weights their first values: torch takes a second to learn how to do that without memory."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__module__", "") == "torch.nn.init" or func in (Tensor.normal_, Tensor.uniform_):
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))
