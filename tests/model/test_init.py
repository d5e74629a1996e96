"""Initial weights."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gptlab.model.gpt import GPT
from gptlab.model.init import Init
from tests.support.tiny_models import LLAMA, MakeGPT

WIDE = {"vocab_size": 300, "context_length": 128, "emb_dim": 128, "n_layers": 3, "shake": 0}


def layers(model: GPT, kind: type[nn.Module]) -> list[tuple[str, Any]]:
    return [(name, layer) for name, layer in model.named_modules() if isinstance(layer, kind)]


def assert_normal(weight: Tensor, std: float) -> None:
    assert abs(weight.mean().item()) < 4 * std / math.sqrt(weight.numel())
    assert weight.std().item() == pytest.approx(std, rel=0.03)
    assert weight.abs().max().item() > 3 * std  # not uniform


def assert_uniform(tensor: Tensor, bound: float) -> None:
    assert tensor.abs().max().item() <= bound
    assert tensor.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.15)


def test_gpt2(make_gpt: MakeGPT) -> None:
    model = make_gpt(**WIDE, init="gpt2")
    for name, linear in layers(model, nn.Linear):
        assert_normal(linear.weight, 0.02 / math.sqrt(2 * 3) if name.endswith(".out") else 0.02)
        assert not linear.bias.any()
    for _, embedding in layers(model, nn.Embedding):
        assert_normal(embedding.weight, 0.02)


def test_norms_start_as_plain_normalisation(make_gpt: MakeGPT) -> None:
    model = make_gpt(**WIDE, **LLAMA, qk_norm=True)
    norms = [(name, parameter) for name, parameter in model.named_parameters() if "norm" in name]
    assert len(norms) == 3 * 4 + 1
    assert all((gain == 1).all() for _, gain in norms)


@pytest.mark.parametrize("changes", [{}, LLAMA], ids=["gpt2", "llama"])
@torch.no_grad()
def test_zero_out_starts_every_block_as_the_identity(make_gpt: MakeGPT, ids: Tensor, changes: dict[str, Any]) -> None:
    model = make_gpt(**{**WIDE, **changes, "init": "zero_out"})
    for name, linear in layers(model, nn.Linear):
        if not name.endswith(".out"):
            assert_normal(linear.weight, 0.5 / math.sqrt(linear.in_features))
    for _, embedding in layers(model, nn.Embedding):
        assert_normal(embedding.weight, 2 / 128)
    x = model.tok_emb(ids)
    if model.pos_emb is not None:
        x = x + model.pos_emb.weight[:20]
    assert torch.equal(model(ids), model.final_norm(x))


def test_torch(make_gpt: MakeGPT) -> None:
    model = make_gpt(**WIDE, init="torch")
    for _, linear in layers(model, nn.Linear):
        assert_uniform(linear.weight, linear.in_features**-0.5)
        assert_uniform(linear.bias, linear.in_features**-0.5)
    for _, embedding in layers(model, nn.Embedding):
        assert_normal(embedding.weight, 1.0)


@pytest.mark.parametrize("init", ["gpt2", "torch", "zero_out"])
def test_the_seed_decides(make_gpt: MakeGPT, init: Init) -> None:
    one, same = (make_gpt(init=init, shake=0) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
