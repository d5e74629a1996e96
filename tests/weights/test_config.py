"""config.json to an Architecture and back: meanings of fields, refused values, and messages."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gptlab.model.architecture import Architecture, architecture_of
from gptlab.weights.export.config import write_config
from gptlab.weights.families import DEFAULTS, read_config
from tests.support.tiny_models import tiny_gpt
from tests.weights.conftest import SIZES, V

WHERE = Path("smol/config.json")


def described(kind: str, **changes: Any) -> Architecture:
    return read_config({"model_type": kind, "vocab_size": V, **SIZES[kind], **changes}, WHERE).architecture


@pytest.mark.parametrize("kind", DEFAULTS)
def test_missing_fields_have_the_defaults_of_transformers(transformers, kind: str) -> None:
    whole = transformers.AutoConfig.for_model(kind).to_dict()
    assert read_config({"model_type": kind}, WHERE) == read_config(whole, WHERE)


def test_null_fields_are_derived_from_others() -> None:
    assert described("mistral", num_key_value_heads=None).n_kv_heads == 4
    assert described("llama", head_dim=None).head_dim == 6
    assert described("gpt2", n_inner=None).hidden_dim == 96


@pytest.mark.parametrize("rope_key", ["rope_parameters", "rope_scaling"])
@pytest.mark.parametrize("type_key", ["rope_type", "type"])
def test_both_spellings_of_rotary_positions(rope_key: str, type_key: str) -> None:
    """Version 5 has one dict, version 4 the base outside it, and the oldest files `type`."""
    theta = {"rope_theta": 5e5}
    inside, outside = (theta, {}) if rope_key == "rope_parameters" else ({}, theta)

    def rope(**numbers: Any) -> tuple[float, dict[str, Any] | None]:
        read = described("llama", **outside, **{rope_key: {**inside, **numbers}})
        return read.rope_base, read.rope_scaling

    assert rope(**{type_key: "default"}) == (5e5, None)
    assert rope(**{type_key: "linear", "factor": 2}) == (5e5, {"type": "linear", "factor": 2.0})
    llama3 = {type_key: "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4}
    wanted = {"type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    original = "original_max_position_embeddings"
    assert rope(**llama3, **{original: 8192}) == (5e5, {**wanted, "original_context_length": 8192})
    assert rope(**llama3) == (5e5, {**wanted, "original_context_length": 32})  # the whole context
    assert described("llama", rope_scaling=None, rope_theta=7.0).rope_base == 7.0


def test_the_original_context_outside_comes_first(make_theirs) -> None:
    rope = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    rope["original_max_position_embeddings"] = 16
    theirs = make_theirs("llama", rope_parameters=dict(rope), original_max_position_embeddings=8)
    assert theirs.config.rope_parameters["original_max_position_embeddings"] == 8
    ours = described("llama", rope_parameters=rope, original_max_position_embeddings=8).rope_scaling
    assert ours is not None
    assert ours["original_context_length"] == 8


@pytest.mark.parametrize(
    ("kind", "changes", "window"),
    [
        ("llama", {}, None),
        ("mistral", {}, 4096),
        ("mistral", {"sliding_window": None}, None),
        ("qwen2", {"sliding_window": 8}, None),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 8}, None),  # 28 layers are full, and there are 2
        ("qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}, 8),
        ("qwen3", {"use_sliding_window": True, "sliding_window": None, "max_window_layers": 0}, None),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 8, "layer_types": ["sliding_attention"] * 2}, 8),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 8, "layer_types": ["full_attention"] * 2}, None),
    ],
)
def test_windows(kind: str, changes: dict[str, Any], window: int | None) -> None:
    assert described(kind, **changes).sliding_window == window


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("gpt2", {"model_type": "gptj"}, 'model_type is "gptj"; gptlab takes "gpt2" or "llama"'),
    ("gpt2", {"model_type": None}, "model_type is null"),
    ("gpt2", {"n_positions": True}, "n_positions is true; gptlab takes a whole number from 1"),
    ("llama", {"rope_theta": float("nan")}, "rope_parameters: rope_theta is NaN; gptlab takes a number above 0"),
    ("llama", {"rms_norm_eps": float("inf")}, "rms_norm_eps is Infinity; gptlab takes a number above 0"),
    ("qwen3", {"layer_types": 5}, "layer_types is 5; gptlab takes one window"),
    ("qwen2", {"use_sliding_window": True, "max_window_layers": "x"}, 'max_window_layers is "x"; gptlab takes a whole'),
    ("gpt2", {"activation_function": "gelu"}, 'activation_function is "gelu"; gptlab takes "gelu_new" or'),
    ("gpt2", {"scale_attn_weights": False}, "scale_attn_weights is false; gptlab takes true"),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is true; gptlab takes false"),
    ("gpt2", {"add_cross_attention": True}, "add_cross_attention is true"),
    ("gpt2", {"quantization_config": {"bits": 4}}, 'quantization_config is {"bits": 4}; gptlab takes null'),
    ("gpt2", {"n_layer": "12"}, 'n_layer is "12"; gptlab takes a whole number from 1'),
    ("gpt2", {"n_embd": None}, "n_embd is null; gptlab takes a whole number from 1"),
    ("gpt2", {"layer_norm_epsilon": None}, "layer_norm_epsilon is null; gptlab takes a number above 0"),
    ("llama", {"hidden_act": "gelu"}, 'hidden_act is "gelu"; gptlab takes "silu" or "swish" or "relu"'),
    ("llama", {"attention_bias": True}, "attention_bias is true; gptlab takes false"),
    ("llama", {"mlp_bias": True}, "mlp_bias is true"),
    ("llama", {"sliding_window": 8}, "sliding_window is 8; gptlab takes null"),
    ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5; gptlab takes null or 1.0"),
    ("llama", {"per_layer_config": {"0": {"head_dim": 8}}}, "per_layer_config is "),
    ("llama", {"rope_parameters": {"partial_rotary_factor": 0.25}}, "rope_parameters: partial_rotary_factor is 0.25"),
    (
        "llama",
        {"rope_parameters": {"rope_type": "yarn"}},
        'rope_parameters: rope_type is "yarn"; gptlab takes "default"',
    ),
    ("llama", {"rope_scaling": {"type": "dynamic", "factor": 2}}, 'rope_scaling: rope_type is "dynamic"'),
    ("llama", {"rope_scaling": {"type": "linear"}}, "rope_scaling: factor is null; gptlab takes a number above 0"),
    ("llama", {"rope_scaling": {"type": "llama3", "factor": 8}}, "rope_scaling: low_freq_factor is null"),
    ("llama", {"rope_parameters": {"full_attention": {"rope_theta": 1}}}, "rope_parameters is .* one set of numbers"),
    ("mistral", {"layer_types": ["full_attention"] * 2}, "layer_types is "),
    ("qwen2", {"use_sliding_window": True, "max_window_layers": 1}, "max_window_layers is 1; gptlab takes one window"),
    ("qwen3", {"layer_types": ["full_attention", "sliding_attention"]}, "layer_types is .*; gptlab takes one window"),
    ("qwen3", {"attention_bias": True}, "attention_bias is true"),
]


@pytest.mark.parametrize(("kind", "changes", "sentence"), REFUSED, ids=lambda value: str(value)[:40])
def test_an_unsupported_feature_is_refused_by_field(kind: str, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence.replace("{", r"\{")) as raised:
        described(kind, **changes)
    assert str(raised.value).startswith("smol/config.json: ")


def test_a_list_as_model_type_is_refused() -> None:
    with pytest.raises(ValueError, match=r'model_type is \["llama"\]; gptlab takes "gpt2" or'):
        read_config({"model_type": ["llama"]}, WHERE)


def test_the_default_of_tied_weights_depends_on_the_family() -> None:
    tied = {kind: read_config({"model_type": kind}, WHERE).tied for kind in DEFAULTS}
    assert tied == {"gpt2": True, "llama": False, "mistral": False, "qwen2": False, "qwen3": False}


MODERN = {"positions": "rotary", "norm": "rms", "feed_forward": "swiglu", "qkv_bias": False, "bias": False}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"norm": "rms"}, "a GPT-2 has model.norm=layer, not rms"),
        (
            {"feed_forward": "relu2", "qk_norm": True},
            "model.feed_forward=gelu, not relu2; model.qk_norm=false, not true",
        ),
        ({"sliding_window": 8}, "a GPT-2 has model.sliding_window=null, not 8"),
        ({"n_kv_heads": 2}, "a GPT-2 has model.n_kv_heads=4, not 2"),
        ({"head_dim": 8}, "a GPT-2 has model.emb_dim=32, the size of all heads together, not 24"),
        (MODERN | {"norm": "layer"}, "a Llama, Mistral or Qwen has model.norm=rms, not layer"),
        (MODERN | {"feed_forward": "gelu"}, "model.feed_forward=swiglu or relu2, not gelu"),
        (MODERN | {"bias": True}, "model.bias=false, not true"),
        (MODERN | {"qkv_bias": True, "qk_norm": True}, "model.qkv_bias=false, not true"),
    ],
)
def test_a_model_of_neither_family_is_refused_with_the_reason(changes: dict[str, Any], sentence: str) -> None:
    architecture = architecture_of(tiny_gpt(**changes))
    with pytest.raises(ValueError, match=f"^the transformers library has no such model: .*{sentence}"):
        write_config(architecture, tied=True, dtype=torch.float32, bos_id=None, eos_id=None)


def test_version_4_finds_its_own_spellings() -> None:
    scaling = {"type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    model = replace(described("llama"), rope_scaling=scaling | {"original_context_length": 16}, rope_base=5e5)
    config = write_config(model, tied=True, dtype=torch.bfloat16, bos_id=1, eos_id=2)
    of_both = config.pop("rope_parameters"), config.pop("dtype")
    assert read_config(config, WHERE) == (model, True)
    assert config.pop("torch_dtype") == of_both[1] == "bfloat16"
    del config["rope_theta"], config["rope_scaling"]
    assert read_config(config | {"rope_parameters": of_both[0]}, WHERE) == (model, True)
