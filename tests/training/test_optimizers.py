"""Which parameters decay."""

import torch
from torch import nn

from gptlab.training.optimizers import adamw


def made(decay: str) -> torch.optim.Optimizer:
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.LayerNorm(4))
    model[1].bias.requires_grad_(False)
    return adamw(
        model.named_parameters(), lr=1e-3, betas=[0.9, 0.95], eps=1e-8, weight_decay=0.1, decay=decay, fused=True
    )


def test_matrices_decay_and_the_rest_does_not() -> None:
    decayed, spared = made("matrices").param_groups
    assert decayed["weight_decay"] == 0.1
    assert [p.ndim for p in decayed["params"]] == [2, 2]
    assert spared["weight_decay"] == 0.0
    assert [p.ndim for p in spared["params"]] == [1, 1]  # the frozen bias is in neither


def test_all_decay_as_in_the_book() -> None:
    (group,) = made("all").param_groups
    assert group["weight_decay"] == 0.1
    assert len(group["params"]) == 4
