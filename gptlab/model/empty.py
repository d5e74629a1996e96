"""Models without numbers, to be filled."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


@contextmanager
def empty_weights() -> Iterator[None]:
    """What is built inside has shapes only, takes no memory, and draws no random numbers."""
    with torch.device("meta"), _NoFirstValues():
        yield


def give_memory(module: nn.Module, *, dtype: torch.dtype, device: str) -> None:
    """Room for its weights, with whatever lies there; the numbers are the caller's to bring."""
    shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
    rooms = {name: torch.empty(shape, dtype=dtype, device=device) for name, shape in shapes.items()}
    module.load_state_dict(rooms, assign=True)


class _NoFirstValues(TorchFunctionMode):
    """Leaves out what gives weights their first values: torch takes a second to learn how to do that without memory."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__module__", "") == "torch.nn.init" or func in (Tensor.normal_, Tensor.uniform_):
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))
