"""Our decoder has the logits of the transformers library's, with the same weights."""

from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from gptlab.model.gpt import GPT
from tests.support.copies import take_gpt2, take_llama
from tests.support.tiny_models import MakeGPT

SIZES = {
    "vocab_size": 50,
    "max_position_embeddings": 32,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "rms_norm_eps": 1e-5,
    "initializer_range": 0.3,
    "bos_token_id": None,
    "eos_token_id": None,
}
OURS = {"positions": "rotary", "norm": "rms", "feed_forward": "swiglu", "hidden_dim": 40, "n_kv_heads": 2}
LINEAR = {"factor": 4.0}
LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
}  # base 100 meets all three branches


@pytest.fixture(scope="module")
def transformers() -> ModuleType:
    return pytest.importorskip("transformers", reason="the parity tests need the dev extra")


@torch.no_grad()
def assert_same_logits(model: GPT, theirs: Any, ids: Tensor) -> None:
    theirs.eval()
    for parameter in theirs.parameters():  # no gain 1, no bias 0
        parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    (take_gpt2 if hasattr(theirs, "transformer") else take_llama)(model, theirs)
    projection = theirs.lm_head.weight  # (V, D)
    torch.testing.assert_close(model(ids) @ projection.T, theirs(ids).logits, rtol=1e-4, atol=1e-4)


def test_gpt2(make_gpt: MakeGPT, ids: Tensor, transformers: ModuleType) -> None:
    config = transformers.GPT2Config(
        vocab_size=50,
        n_positions=32,
        n_embd=24,
        n_layer=3,
        n_head=4,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=None,
    )
    assert_same_logits(make_gpt(n_layers=3), transformers.GPT2LMHeadModel(config), ids)


@pytest.mark.parametrize(
    ("rope", "scaling"),
    [
        ({"rope_type": "default"}, None),
        ({"rope_type": "linear", **LINEAR}, {"type": "linear", **LINEAR}),
        (
            {"rope_type": "llama3", **LLAMA3, "original_max_position_embeddings": 64},
            {"type": "llama3", **LLAMA3, "original_context_length": 64},
        ),
    ],
    ids=["plain", "linear", "llama3"],
)
def test_llama(
    make_gpt: MakeGPT, ids: Tensor, transformers: ModuleType, rope: dict[str, Any], scaling: dict[str, Any] | None
) -> None:
    config = transformers.LlamaConfig(**SIZES, rope_parameters={"rope_theta": 100.0, **rope})
    model = make_gpt(**OURS, qkv_bias=False, bias=False, rope_scaling=scaling)
    assert_same_logits(model, transformers.LlamaForCausalLM(config), ids)


def test_mistral_window(make_gpt: MakeGPT, ids: Tensor, transformers: ModuleType) -> None:
    rope = {"rope_theta": 100.0, "rope_type": "default"}
    config = transformers.MistralConfig(**SIZES, rope_parameters=rope, sliding_window=6)
    model = make_gpt(**OURS, qkv_bias=False, bias=False, sliding_window=6)
    assert_same_logits(model, transformers.MistralForCausalLM(config), ids)


def test_qwen3_qk_norm(make_gpt: MakeGPT, ids: Tensor, transformers: ModuleType) -> None:
    rope = {"rope_theta": 100.0, "rope_type": "default"}
    config = transformers.Qwen3Config(**SIZES, rope_parameters=rope, head_dim=8)
    model = make_gpt(**OURS, qkv_bias=False, bias=False, head_dim=8, qk_norm=True)
    assert_same_logits(model, transformers.Qwen3ForCausalLM(config), ids)
