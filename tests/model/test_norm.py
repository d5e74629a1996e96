"""RMSNorm: value and gradient are the formula's."""

import pytest
import torch
from torch import Tensor

from gptlab.model.norm import RMSNorm


def by_formula(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x / (x.square().mean(dim=-1, keepdim=True) + eps).sqrt() * weight


@pytest.mark.parametrize("shape", [(3, 8), (2, 5, 8), (2, 3, 5, 8), (0, 8)])
@pytest.mark.parametrize("eps", [1e-6, 0.5])
def test_value_and_gradient_are_the_formulas(shape: tuple[int, ...], eps: float) -> None:
    torch.manual_seed(0)
    norm = RMSNorm(8, eps).double()
    torch.nn.init.normal_(norm.weight)
    x, grad = torch.randn(shape, dtype=torch.float64, requires_grad=True), torch.randn(shape, dtype=torch.float64)
    wanted = by_formula(x, norm.weight, eps)
    torch.testing.assert_close(norm(x), wanted)
    inputs = (x, norm.weight)
    torch.testing.assert_close(torch.autograd.grad(norm(x), inputs, grad), torch.autograd.grad(wanted, inputs, grad))


def test_heads_that_lie_apart_in_memory() -> None:
    x = torch.randn(2, 5, 3, 8, requires_grad=True)
    norm = RMSNorm(8, 1e-6)
    apart, together = norm(x.transpose(1, 2)), norm(x.transpose(1, 2).contiguous())
    torch.testing.assert_close(apart, together)
    torch.testing.assert_close(*(torch.autograd.grad(y.square().sum(), x)[0] for y in (apart, together)))


def test_training_and_inference_use_equal_norms() -> None:
    norm, x = RMSNorm(64, 1e-6), 3 * torch.randn(7, 64)
    learning = norm(x)
    with torch.no_grad():
        torch.testing.assert_close(norm(x), learning, rtol=1e-6, atol=1e-6)
        assert norm(x.bfloat16()).dtype == torch.bfloat16
    assert norm(x.bfloat16()).dtype == torch.bfloat16


def test_a_frozen_norm_has_no_gradient() -> None:
    norm, x = RMSNorm(8, 1e-6), torch.randn(3, 8, requires_grad=True)
    norm.weight.requires_grad_(False)
    norm(x).sum().backward()
    assert norm.weight.grad is None
    assert x.grad is not None
