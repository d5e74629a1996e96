"""Rotary positions: value and gradient are the formula's."""

import torch
from torch import Tensor

from gptlab.model.rotary import apply_rotary


def by_formula(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


def test_value_and_gradients_are_the_formulas() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 3, 8, dtype=torch.float64, requires_grad=True)
    for angles in (torch.randn(5, 4, dtype=torch.float64), torch.randn(2, 1, 5, 4, dtype=torch.float64)):
        heads, turns = x.transpose(1, 2), (angles.cos(), angles.sin())  # (B, H, T, K), as attention has them
        ours, wanted = apply_rotary(heads, *turns), by_formula(heads, *turns)
        torch.testing.assert_close(ours, wanted)
        grad = torch.randn(ours.shape, dtype=torch.float64)
        first = [torch.autograd.grad(y, x, grad, create_graph=True)[0] for y in (ours, wanted)]
        torch.testing.assert_close(*first)
        assert torch.autograd.gradcheck(lambda x, turns=turns: apply_rotary(x, *turns).square(), heads)


def test_rotation_preserves_lengths() -> None:
    x, angles = torch.randn(2, 3, 5, 8), torch.randn(5, 4)
    torch.testing.assert_close(apply_rotary(x, angles.cos(), angles.sin()).norm(dim=-1), x.norm(dim=-1))
