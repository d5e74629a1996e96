"""A GPT small enough for every test."""

from collections.abc import Callable
from typing import Any

import torch

from gptlab.model.gpt import GPT

MakeGPT = Callable[..., GPT]

GPT2: dict[str, Any] = {
    "vocab_size": 50,
    "context_length": 32,
    "emb_dim": 24,
    "n_heads": 4,
    "n_kv_heads": None,
    "head_dim": None,
    "n_layers": 2,
    "hidden_dim": None,
    "drop_rate": 0.0,
    "qkv_bias": True,
    "bias": True,
    "positions": "learned",
    "rope_base": 100.0,
    "rope_scaling": None,
    "norm": "layer",
    "norm_eps": 1e-5,
    "feed_forward": "gelu",
    "qk_norm": False,
    "sliding_window": None,
    "attention": "fused",
    "init": "gpt2",
}
LLAMA = {
    "positions": "rotary",
    "norm": "rms",
    "feed_forward": "swiglu",
    "n_kv_heads": 2,
    "qkv_bias": False,
    "bias": False,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "llama": LLAMA,
    "mistral": {**LLAMA, "sliding_window": 5},
    "qwen": {**LLAMA, "qk_norm": True, "head_dim": 8, "n_kv_heads": 1, "feed_forward": "relu2"},
}


def tiny_gpt(*, shake: float = 0.3, **changes: Any) -> GPT:
    """Build a tiny GPT-2 with changes, in evaluation mode, the same at each call.

    shake: standard deviation of noise added to every parameter, so that no bias is 0, no gain 1 and no layer silent.
    """
    torch.manual_seed(0)
    model = GPT(**{**GPT2, **changes}).eval()
    if shake:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += shake * torch.randn_like(parameter)
    return model
