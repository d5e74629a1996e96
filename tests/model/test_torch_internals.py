"""The undocumented parts of PyTorch that we rely on are there, and do what we think."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.model import torch_internals as internals
from gptlab.model.meta import SkipInit

onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN")


def assert_there(owner: object, *names: str) -> None:
    for name in names:
        assert hasattr(owner, name), f"PyTorch {torch.__version__} has no {name} in {owner}: mend torch_internals.py"


@onednn
@torch.no_grad()
def test_onednn_multiplies_with_prepacked_weights() -> None:
    names = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    assert_there(torch.ops.mkldnn, *names)
    assert internals.has_prepacked_linear(torch.float32)
    assert not internals.has_prepacked_linear(torch.float64)
    x, weight, bias = torch.randn(2, 3, 40), torch.randn(24, 40), torch.randn(24)
    prepacked = internals.prepack_linear(weight, n_rows=8)
    torch.testing.assert_close(internals.prepacked_linear(x, prepacked, bias), F.linear(x, weight, bias))
    torch.testing.assert_close(internals.prepacked_linear(x, prepacked, None), F.linear(x, weight))


def test_int8_weights_are_scaled_row_by_row() -> None:
    assert_there(torch, "_weight_int8pack_mm")
    x, scales = torch.ones(2, 64, dtype=torch.bfloat16), torch.full((32,), 0.5, dtype=torch.bfloat16)
    numbers = torch.arange(32, dtype=torch.int8)[:, None].expand(32, 64).contiguous()
    wanted = (torch.arange(32) * 64 * 0.5).bfloat16().expand(2, 32)
    torch.testing.assert_close(internals.int8_linear(x, numbers, scales), wanted)


class Subclass(Tensor):
    """A tensor without storage that counts the functions that it meets."""

    seen = 0

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count a function, and call it as if there were no subclass."""
        cls.seen += 1
        with internals.without_torch_function():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """Refuse operations."""
        raise NotImplementedError


def test_a_tensor_without_storage_has_a_shape_and_meets_functions() -> None:
    assert_there(Tensor, "_make_wrapper_subclass")
    assert_there(torch._C, "DisableTorchFunctionSubclass")
    tensor = internals.wrapper_tensor(Subclass, torch.Size((2, 3)), dtype=torch.bfloat16, device=torch.device("cpu"))
    assert type(tensor) is Subclass
    assert (tensor.shape, tensor.dtype) == ((2, 3), torch.bfloat16)
    assert Subclass.seen > 0  # and no recursion without end
    with pytest.raises(NotImplementedError):
        tensor + 1


def test_a_parameter_can_be_replaced_when_it_is_registered() -> None:
    assert_there(torch.nn.modules.module, "register_module_parameter_registration_hook")
    module, first, second = nn.Module(), nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    with internals.replacing_parameters(lambda parameter: nn.Parameter(7 * parameter)):
        module.register_parameter("inside", first)
    module.register_parameter("outside", second)
    assert (module.inside == 7).all()
    assert module.outside is second


@pytest.mark.parametrize("name", ["normal_", "uniform_", "kaiming_uniform_"])
def test_a_mode_sees_the_functions_that_draw_weights(name: str) -> None:
    tensor = torch.full((3, 4), 7.0)
    with SkipInit():
        assert getattr(nn.init, name)(tensor) is tensor
    assert (tensor == 7).all(), f"torch.nn.init.{name} no longer reaches a TorchFunctionMode: mend torch_internals.py"
