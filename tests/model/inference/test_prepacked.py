"""Prepacked weights compute the same function."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gptlab.hardware.precision import autocast
from gptlab.heads.lm import LMHead
from gptlab.heads.protocol import HeadContext
from gptlab.model.inference.prepacked import PrepackedWeight, prepack
from gptlab.model.torch_internals import has_prepacked_linear
from tests.support.tiny_models import FAMILIES, tiny_gpt

V = 50
FORMATS = [dtype for dtype in (torch.float32, torch.bfloat16) if has_prepacked_linear(dtype)]

pytestmark = pytest.mark.skipif(not FORMATS, reason="PyTorch without oneDNN")


def build(family: str, *, tied: bool) -> nn.ModuleDict:
    model = tiny_gpt(vocab_size=V, **FAMILIES[family]).eval()
    head = LMHead(model, HeadContext(vocab_size=V, token_bytes=None, labels={}), tied=tied, loss_chunk_rows="auto")
    return nn.ModuleDict({"model": model, "head": head})


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_a_product_of_any_number_of_rows(dtype: torch.dtype, bias: bool) -> None:
    torch.manual_seed(0)
    weight, b = torch.randn(96, 70).to(dtype), torch.randn(96).to(dtype) if bias else None
    packed = PrepackedWeight(weight, dtype=dtype, looked_up=False)
    for shape in ((1, 1), (1, 7), (3, 40), (1, 300)):
        x = torch.randn(*shape, 70).to(dtype)
        rounding = 1e-5 if dtype == torch.float32 else 2e-2
        torch.testing.assert_close(F.linear(x, packed, b), F.linear(x, weight, b), rtol=rounding, atol=10 * rounding)
        assert F.linear(x, packed, b).dtype == dtype
        assert torch.equal(F.linear(x, packed, bias=b), F.linear(x, packed, b))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [True, False])
@torch.no_grad()
def test_a_prepacked_model_has_the_same_logits(family: str, tied: bool) -> None:
    modules = build(family, tied=tied)
    before = copy.deepcopy(modules)
    prepack(modules["model"], modules["head"].out.owner, dtype=torch.float32)
    layers = [layer for layer in modules["model"].modules() if isinstance(layer, nn.Linear)]
    assert all(isinstance(layer.weight, PrepackedWeight) for layer in (*layers, modules["head"].out.owner))
    assert isinstance(modules["model"].tok_emb.weight, PrepackedWeight) == tied
    ids = torch.randint(V, (2, 15))
    ours, theirs = (p["head"](p["model"](ids), {}) for p in (modules, before))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(torch.bfloat16 not in FORMATS, reason="no products in bfloat16 here")
@torch.no_grad()
def test_mixed_precision_rounds_as_autocast_does() -> None:
    modules = build("llama", tied=True)
    before = copy.deepcopy(modules)
    prepack(modules["model"], modules["head"].out.owner, dtype=torch.bfloat16)
    ids = torch.randint(V, (2, 15))
    with autocast("bf16-mixed", "cpu"):
        ours, theirs = (p["head"](p["model"](ids), {}) for p in (modules, before))
    assert ours.dtype == theirs.dtype == torch.bfloat16
    torch.testing.assert_close(ours.float(), theirs.float(), rtol=3e-2, atol=3e-2)
    assert torch.equal(
        F.embedding(ids, modules["model"].tok_emb.weight), F.embedding(ids, before["model"].tok_emb.weight)
    )


def test_weights_without_a_kernel_stay_unchanged() -> None:
    modules = build("gpt2", tied=True).double()
    prepack(modules["model"], modules["head"].out.owner, dtype=torch.float64)
    assert all(type(layer.weight) is nn.Parameter for layer in modules.modules() if isinstance(layer, nn.Linear))


def test_prepacked_weights_cannot_be_trained() -> None:
    with pytest.raises(NotImplementedError, match=r"of a PrepackedWeight, .* can generate, not train"):
        PrepackedWeight(torch.ones(4, 4), dtype=torch.float32, looked_up=False).add(1.0)
