"""The config.json that describes a model of ours as a published family."""

import json
from collections.abc import Sequence
from typing import Any

import torch

from gptlab.errors import UserError
from gptlab.model.architecture import Architecture

NAMES = {"gpt2": "GPT2", "llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}


def write_config(
    architecture: Architecture,
    *,
    tied: bool,
    dtype: torch.dtype,
    bos_id: int | None,
    eos_id: int | None,
    labels: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the content of config.json, for transformers 4 and 5.

    GPT-2 has biases everywhere: missing ones are written as zeros. `relu2` is written as a gated layer whose two
    matrices are equal: relu(W x) * W x.

    Args:
        labels: a classifier's classes, in order.

    Raises:
        UserError: the model fits no family; the message lists the fields.
    """
    kind = model_type(architecture)
    name = str(dtype).removeprefix("torch.")
    return {
        "model_type": kind,
        "architectures": [_class_name(kind, classifier=bool(labels))],
        "vocab_size": architecture.vocab_size,
        **(_gpt2_fields(architecture) if kind == "gpt2" else _llama_fields(architecture, kind)),
        "tie_word_embeddings": tied,
        "bos_token_id": bos_id,
        "eos_token_id": eos_id,
        "dtype": name,
        "torch_dtype": name,  # for version 4
        **(_classifier_fields(labels, pad_id=eos_id) if labels else {}),
    }


def _class_name(kind: str, *, classifier: bool) -> str:
    """Return the transformers class that opens the folder."""
    if classifier:
        return f"{NAMES[kind]}ForSequenceClassification"
    return "GPT2LMHeadModel" if kind == "gpt2" else f"{NAMES[kind]}ForCausalLM"


def _classifier_fields(labels: Sequence[str], *, pad_id: int | None) -> dict[str, Any]:
    """Return the fields about a classifier's classes.

    Args:
        pad_id: an id that no text contains, since the last other token is the one classified.
    """
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: i for i, label in enumerate(labels)},
        "problem_type": "single_label_classification",
        "pad_token_id": pad_id,
    }


def model_type(architecture: Architecture) -> str:
    """Return the `model_type` of config.json.

    Raises:
        UserError: the model fits no family; the message lists the fields.
    """
    learned = architecture.positions == "learned"
    if misfits := _not_gpt2(architecture) if learned else _not_llama(architecture):
        family = "a GPT-2" if learned else "a Llama, Mistral or Qwen"
        raise UserError(f"the transformers library has no such model: {family} has {'; '.join(misfits)}")
    return "gpt2" if learned else _llama_kind(architecture)


def _not_gpt2(a: Architecture) -> list[str]:
    """Return the fields that keep a model from being a GPT-2."""
    wanted = {
        "norm": "layer",
        "feed_forward": "gelu",
        "qk_norm": False,
        "sliding_window": None,
        "n_kv_heads": a.n_heads,
    }
    misfits = _differing(a, wanted)
    if a.n_heads * a.head_dim != a.emb_dim:
        misfits.append(f"model.emb_dim={a.n_heads * a.head_dim}, the size of all heads together, not {a.emb_dim}")
    return misfits


def _not_llama(a: Architecture) -> list[str]:
    """Return the fields that keep a model from being Llama-like."""
    wanted: dict[str, Any] = {"norm": "rms", "bias": False}
    wanted |= {"feed_forward": "swiglu or relu2"} if a.feed_forward == "gelu" else {}
    wanted |= {"qkv_bias": False} if a.qk_norm else {}  # Qwen2 has qkv_bias, Qwen3 qk_norm
    return _differing(a, wanted)


def _differing(a: Architecture, wanted: dict[str, Any]) -> list[str]:
    pairs = ((field, value, getattr(a, field)) for field, value in wanted.items())
    return [f"model.{field}={_typed(value)}, not {_typed(own)}" for field, value, own in pairs if own != value]


def _typed(value: Any) -> str:
    """Return a value as typed in a configuration: null, false, rms."""
    return json.dumps(value).strip('"')


def _llama_kind(a: Architecture) -> str:
    if a.qk_norm:
        return "qwen3"
    if a.qkv_bias:
        return "qwen2"
    # transformers' Llama requires n_heads to divide emb_dim even with a head_dim; its Mistral does not
    return "llama" if a.sliding_window is None and a.emb_dim % a.n_heads == 0 else "mistral"


def _gpt2_fields(a: Architecture) -> dict[str, Any]:
    return {
        "n_positions": a.context_length,
        "n_embd": a.emb_dim,
        "n_layer": a.n_layers,
        "n_head": a.n_heads,
        "n_inner": a.hidden_dim,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": a.norm_eps,
    }


def _llama_fields(a: Architecture, kind: str) -> dict[str, Any]:
    scaling = _rope_scaling(a.rope_scaling)
    sliding_window = {
        "sliding_window": a.sliding_window,
        "use_sliding_window": a.sliding_window is not None,
        "max_window_layers": 0,
    }
    return {
        "hidden_size": a.emb_dim,
        "intermediate_size": a.hidden_dim,
        "num_hidden_layers": a.n_layers,
        "num_attention_heads": a.n_heads,
        "num_key_value_heads": a.n_kv_heads,
        "head_dim": a.head_dim,
        "hidden_act": "relu" if a.feed_forward == "relu2" else "silu",
        "max_position_embeddings": a.context_length,
        "rms_norm_eps": a.norm_eps,
        **({} if kind == "llama" else sliding_window),  # two of the three are Qwen's
        "rope_parameters": {"rope_theta": a.rope_base, **(scaling or {"rope_type": "default"})},
        "rope_theta": a.rope_base,  # this and the next field are for version 4
        "rope_scaling": scaling,
    }


def _rope_scaling(scaling: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return rotary scaling with transformers' keys."""
    if scaling is None:
        return None
    renamed = {"type": "rope_type", "original_context_length": "original_max_position_embeddings"}
    return {renamed.get(key, key): value for key, value in scaling.items()}
