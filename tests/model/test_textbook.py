"""Our decoder has the logits of the textbook's, with the same weights."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gptlab.model.gpt import GPT
from tests.reference import textbook
from tests.support.copies import textbook_weights
from tests.support.tiny_models import LLAMA, MakeGPT

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
precisions = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)


def assert_same_logits(
    models: list[GPT], ids: Tensor, expected: Callable[[Tensor], Tensor], dtype: torch.dtype
) -> None:
    wanted = torch.stack([expected(row) for row in ids])  # (B, T, V)
    for model in models:
        logits = model(ids) @ model.tok_emb.weight.T  # (B, T, V)
        torch.testing.assert_close(logits, wanted, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@precisions
@pytest.mark.parametrize(
    "changes", [{}, {"qkv_bias": False}, {"bias": False}, {"n_heads": 1}, {"hidden_dim": 7}], ids=str
)
@torch.no_grad()
def test_gpt2(make_gpt: MakeGPT, ids: Tensor, dtype: torch.dtype, changes: dict[str, Any]) -> None:
    models = [make_gpt(**changes, attention=attention).to(dtype) for attention in ("fused", "naive")]
    weights = textbook_weights(models[0])
    assert_same_logits(models, ids[:2, :10], lambda row: textbook.gpt2(row, weights), dtype)


@precisions
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"n_kv_heads": 1},
        {"n_kv_heads": None},
        {"feed_forward": "relu2"},
        {"qk_norm": True},
        {"sliding_window": 3},
        {"head_dim": 10},
        {"qkv_bias": True},
        {"rope_scaling": {"type": "linear", "factor": 2.5}},
    ],
    ids=str,
)
@torch.no_grad()
def test_llama(make_gpt: MakeGPT, ids: Tensor, dtype: torch.dtype, changes: dict[str, Any]) -> None:
    models = [make_gpt(**{**LLAMA, **changes}, attention=attention).to(dtype) for attention in ("fused", "naive")]
    weights = textbook_weights(models[0])
    options = {"rope_base": models[0].rope_base, "window": changes.get("sliding_window")}
    if "rope_scaling" in changes:
        options["rope_factor"] = changes["rope_scaling"]["factor"]
    assert_same_logits(models, ids[:1, :10], lambda row: textbook.llama(row, weights, **options), dtype)
