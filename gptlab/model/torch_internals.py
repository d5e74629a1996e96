"""The undocumented parts of PyTorch that the model uses.

Each function names the attribute that it relies on, and `tests/model/test_torch_internals.py` checks it, so that an
upgrade of PyTorch breaks there and nowhere else.   M rows, I inputs, O outputs.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook


def has_prepacked_linear(dtype: torch.dtype) -> bool:
    """Return whether oneDNN multiplies prepacked weights of this dtype.

    Relies on `torch.ops.mkldnn._reorder_linear_weight` and `torch.ops.mkldnn._is_mkldnn_bf16_supported`.
    """
    ops = torch.ops.mkldnn
    available = torch.backends.mkldnn.is_available() and hasattr(ops, "_reorder_linear_weight")
    return available and (dtype == torch.float32 or (dtype == torch.bfloat16 and ops._is_mkldnn_bf16_supported()))


def prepack_linear(weight: Tensor, *, n_rows: int) -> Tensor:
    """Return a matrix in the layout that oneDNN prefers for `n_rows` inputs.

    (O, I) -> (O, I), opaque

    Relies on `torch.ops.mkldnn._reorder_linear_weight`.
    """
    prepacked: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, n_rows)
    return prepacked


def prepacked_linear(x: Tensor, prepacked: Tensor, bias: Tensor | None) -> Tensor:
    """Multiply with a prepacked matrix and add the bias.

    (..., I) -> (..., O)

    Relies on `torch.ops.mkldnn._linear_pointwise`; "none", [] and "" say that no activation follows.
    """
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, prepacked, bias, "none", [], "")
    return y


def int8_linear(x: Tensor, numbers: Tensor, scales: Tensor) -> Tensor:
    """Multiply with an int8 matrix that has one scale a row.

    (M, I), (O, I), (O,) -> (M, O)

    Relies on `torch._weight_int8pack_mm`, which wants x and the scales in bfloat16 and x contiguous. It also wants I to
    be a multiple of 16, and does not check that.
    """
    return torch._weight_int8pack_mm(x, numbers, scales)


def wrapper_tensor(cls: type[Tensor], shape: torch.Size, *, dtype: torch.dtype, device: torch.device) -> Any:
    """Return a tensor subclass without storage.

    It only has a shape, a dtype and a device.

    Relies on `torch.Tensor._make_wrapper_subclass`.
    """
    return Tensor._make_wrapper_subclass(cls, shape, dtype=dtype, device=device)


def without_torch_function() -> AbstractContextManager[Any]:
    """Return a context in which no subclass's `__torch_function__` is called.

    Relies on `torch._C.DisableTorchFunctionSubclass`.
    """
    context: AbstractContextManager[Any] = torch._C.DisableTorchFunctionSubclass()
    return context


@contextmanager
def replacing_parameters(replace: Callable[[nn.Parameter], nn.Parameter]) -> Iterator[None]:
    """Replace every parameter that a module registers inside.

    Relies on `torch.nn.modules.module.register_module_parameter_registration_hook`, whose hook may return the
    parameter to register instead; its annotation does not say so.
    """

    def hook(module: nn.Module, name: str, parameter: nn.Parameter) -> nn.Parameter:
        return replace(parameter)

    handle = register_module_parameter_registration_hook(hook)  # type: ignore[arg-type]  # it may return a parameter
    try:
        yield
    finally:
        handle.remove()


def draws_weights(func: Callable[..., Any]) -> bool:
    """Return whether a function seen by a TorchFunctionMode draws initial weights.

    Relies on `torch.nn.init` passing `normal_`, `uniform_` and `kaiming_uniform_`, which draw random numbers, to the
    mode.
    """
    return getattr(func, "__module__", "") == "torch.nn.init" or func in (Tensor.normal_, Tensor.uniform_)
