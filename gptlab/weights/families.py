"""The config.json of published model families, as our Architecture.

The families are GPT-2, Llama, Mistral, Qwen2 and Qwen3. The meaning and defaults of the fields are those of
transformers 5.23; the spellings of version 4 are also understood.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from gptlab.errors import UserError
from gptlab.model.architecture import Architecture
from gptlab.storage.excerpts import excerpt

# defaults of the fields of each model_type
GPT2 = {
    "vocab_size": 50257,
    "n_positions": 1024,
    "n_embd": 768,
    "n_layer": 12,
    "n_head": 12,
    "n_inner": None,
    "layer_norm_epsilon": 1e-5,
    "tie_word_embeddings": True,
}
LLAMA = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": None,
    "head_dim": None,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": False,
}
MISTRAL = LLAMA | {
    "intermediate_size": 14336,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "sliding_window": 4096,
}
QWEN2 = LLAMA | {
    "vocab_size": 151936,
    "intermediate_size": 22016,
    "num_key_value_heads": 32,
    "max_position_embeddings": 32768,
    "use_sliding_window": False,
    "sliding_window": 4096,
    "max_window_layers": 28,
    "layer_types": None,
}
DEFAULTS = {"gpt2": GPT2, "llama": LLAMA, "mistral": MISTRAL, "qwen2": QWEN2, "qwen3": QWEN2 | {"head_dim": 128}}

# model_type -> other fields that change the computation, and their supported values, the default first
ALL_FAMILIES: dict[str, tuple[Any, ...]] = {"quantization_config": (None, {}), "per_layer_config": (None, {})}
LLAMA_LIKE = ALL_FAMILIES | {"hidden_act": ("silu", "swish", "relu"), "partial_rotary_factor": (None, 1.0)}
SUPPORTED = {
    "gpt2": ALL_FAMILIES
    | {
        "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
    },
    "llama": LLAMA_LIKE
    | {"attention_bias": (False,), "mlp_bias": (False,), "sliding_window": (None,), "layer_types": (None,)},
    "mistral": LLAMA_LIKE | {"layer_types": (None,)},
    "qwen2": LLAMA_LIKE,
    "qwen3": LLAMA_LIKE | {"attention_bias": (False,)},
}

DTYPES = {  # by all of torch's names
    "float32": torch.float32,
    "float": torch.float32,
    "float64": torch.float64,
    "double": torch.float64,
    "float16": torch.float16,
    "half": torch.float16,
    "bfloat16": torch.bfloat16,
}

MAX_COUNT = 1 << 40  # of any size; no file has that many
MAX_LAYERS = 4096  # modules are built before the weights are checked; the deepest published model has 126
MAX_NUMBER = 1e30  # fits into a float32


class ModelConfig(NamedTuple):
    """The content of a config.json."""

    architecture: Architecture
    tied: bool  # the output matrix is the token embedding


def read_config(config: Mapping[str, Any], where: Path) -> ModelConfig:
    """Return the architecture that a config.json describes.

    `hidden_act: relu` becomes our `relu2`, which is right only if each block's gate and up matrices are equal; that is
    checked when the weights are read.

    Args:
        where: path of the file, for the messages.

    Raises:
        UserError: a field has a value that gptlab does not support.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in DEFAULTS:
        raise unsupported(where, "model_type", kind, _any_of(DEFAULTS))
    for field, values in SUPPORTED[kind].items():
        got = config.get(field, values[0])
        if got not in values:
            raise unsupported(where, field, got, _any_of(values))
    fields = _Fields({**DEFAULTS[kind], **config}, where)
    architecture = _gpt2(fields) if kind == "gpt2" else _llama(fields, kind)
    return ModelConfig(architecture, tied=fields.flag("tie_word_embeddings"))


def read_dtype(config: Mapping[str, Any], where: Path) -> torch.dtype | None:
    """Return the dtype that a config.json names, if it names one.

    Raises:
        UserError: the name is no floating-point dtype that gptlab has.
    """
    field = "torch_dtype" if config.get("dtype") is None else "dtype"  # the name in version 4, and in 5
    name = config.get(field)
    if name is None:
        return None
    if not isinstance(name, str) or name not in DTYPES:
        raise unsupported(where, field, name, _any_of(DTYPES))
    return DTYPES[name]


def unsupported(where: Path | str, field: str, got: Any, wanted: str) -> UserError:
    """Return the error for a field with an unsupported value."""
    try:
        shown = json.dumps(got)
    except RecursionError:
        shown = excerpt(got)
    return UserError(f"{where}: {field} is {shown:.80}; gptlab takes {wanted}")


def _any_of(values: Iterable[Any]) -> str:
    return " or ".join(json.dumps(value) for value in values)


class _Fields:
    """The fields of a config.json, with defaults."""

    def __init__(self, fields: dict[str, Any], where: Path | str) -> None:
        self.fields, self.where = fields, where

    def __getitem__(self, field: str) -> Any:
        return self.fields.get(field)

    def count(self, field: str, default: int | None = None, *, least: int = 1, most: int = MAX_COUNT) -> int:
        """Return an integer field; null stands for the default."""
        value = default if self[field] is None else self[field]
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise unsupported(self.where, field, self[field], f"a whole number from {least} to {most:,}")
        return value

    def flag(self, field: str) -> bool:
        """Return a boolean field; null stands for false."""
        if not isinstance(self[field], bool | None):
            raise unsupported(self.where, field, self[field], "true or false")
        return bool(self[field])

    def number(self, field: str) -> float:
        """Return a positive finite field."""
        value = self[field]
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < MAX_NUMBER:
            raise unsupported(self.where, field, value, f"a number above 0 and below {MAX_NUMBER:g}")
        return float(value)


def _gpt2(fields: _Fields) -> Architecture:
    emb_dim, n_heads = fields.count("n_embd"), fields.count("n_head")
    return Architecture(
        vocab_size=fields.count("vocab_size"),
        context_length=fields.count("n_positions"),
        emb_dim=emb_dim,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_dim=emb_dim // n_heads,
        n_layers=fields.count("n_layer", most=MAX_LAYERS),
        hidden_dim=fields.count("n_inner", 4 * emb_dim),
        qkv_bias=True,
        bias=True,
        positions="learned",
        rope_base=10_000.0,  # unused without rotary positions
        rope_scaling=None,
        norm="layer",
        norm_eps=fields.number("layer_norm_epsilon"),
        feed_forward="gelu",
        qk_norm=False,
        sliding_window=None,
    )


def _llama(fields: _Fields, kind: str) -> Architecture:
    emb_dim, n_heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    rope_base, rope_scaling = _rope(fields)
    return Architecture(
        vocab_size=fields.count("vocab_size"),
        context_length=fields.count("max_position_embeddings"),
        emb_dim=emb_dim,
        n_heads=n_heads,
        n_kv_heads=fields.count("num_key_value_heads", n_heads),
        head_dim=fields.count("head_dim", emb_dim // n_heads),
        n_layers=fields.count("num_hidden_layers", most=MAX_LAYERS),
        hidden_dim=fields.count("intermediate_size"),
        qkv_bias=kind == "qwen2",
        bias=False,
        positions="rotary",
        rope_base=rope_base,
        rope_scaling=rope_scaling,
        norm="rms",
        norm_eps=fields.number("rms_norm_eps"),
        feed_forward="relu2" if fields["hidden_act"] == "relu" else "swiglu",
        qk_norm=kind == "qwen3",
        sliding_window=_window(fields, kind),
    )


def _rope(fields: _Fields) -> tuple[float, dict[str, Any] | None]:
    """Return the rotary base and scaling.

    transformers 4 has rope_theta and rope_scaling, version 5 has both in rope_parameters.
    """
    name, trained = "rope_scaling" if fields["rope_scaling"] else "rope_parameters", "original_max_position_embeddings"
    given = fields[name] or {}
    if not isinstance(given, dict) or any(isinstance(value, dict) for value in given.values()):
        raise unsupported(fields.where, name, given, "one set of numbers for all layers")
    outside = {"rope_theta": fields["rope_theta"], trained: fields["max_position_embeddings"]}
    rope = _Fields({**outside, **given}, f"{fields.where}: {name}")
    base, kind = rope.number("rope_theta"), rope["rope_type"] or rope["type"] or "default"
    if rope["partial_rotary_factor"] not in (None, 1.0):
        raise unsupported(rope.where, "partial_rotary_factor", rope["partial_rotary_factor"], "1.0")
    if kind == "default":
        return base, None
    if kind == "linear":
        return base, {"type": "linear", "factor": rope.number("factor")}
    if kind != "llama3":
        raise unsupported(rope.where, "rope_type", kind, _any_of(("default", "linear", "llama3")))
    scaling = {key: rope.number(key) for key in ("factor", "low_freq_factor", "high_freq_factor")}
    original = (fields if fields[trained] else rope).count(trained)  # the one outside takes precedence
    return base, {"type": "llama3", **scaling, "original_context_length": original}


def _window(fields: _Fields, kind: str) -> int | None:
    """Return the number of tokens a token attends to, itself included.

    transformers counts as we do. None is full attention.
    """
    sliding_window = fields["sliding_window"] if kind == "mistral" or fields.flag("use_sliding_window") else None
    types, field = fields["layer_types"], "layer_types"
    if not types:  # the first layers have full attention
        n_layers, field = fields.count("num_hidden_layers", most=MAX_LAYERS), "max_window_layers"
        n_full = n_layers if sliding_window is None else 0 if kind == "mistral" else fields.count(field, least=0)
        types = ["full_attention"] * (n_full > 0) + ["sliding_attention"] * (n_full < n_layers)

    def all_are(name: str) -> bool:
        return isinstance(types, list) and all(one == name for one in types)

    if all_are("full_attention"):
        return None
    if all_are("sliding_attention") and sliding_window is not None:
        return fields.count("sliding_window")
    raise unsupported(fields.where, field, fields[field], "one window for all layers, or none")
