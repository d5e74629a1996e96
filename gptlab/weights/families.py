"""The published families that a GPT of ours can be: GPT-2, and Llama with Mistral, Qwen2 and Qwen3.

Their `config.json` to our Architecture. What the fields do, and what a file that leaves one out means, is read from
transformers 5.23; both its spellings and those of version 4 are understood.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gptlab.errors import UserError
from gptlab.model.architecture import Architecture
from gptlab.storage.excerpts import excerpt

# model_type -> what a file means that leaves a field out
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

# model_type -> what else changes the arithmetic, and which values ours has; a file without the field has the first
_ALL: dict[str, tuple[Any, ...]] = {"quantization_config": (None, {}), "per_layer_config": (None, {})}
_LLAMAS = _ALL | {"hidden_act": ("silu", "swish", "relu"), "partial_rotary_factor": (None, 1.0)}
SUPPORTED = {
    "gpt2": _ALL
    | {
        "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
    },
    "llama": _LLAMAS
    | {"attention_bias": (False,), "mlp_bias": (False,), "sliding_window": (None,), "layer_types": (None,)},
    "mistral": _LLAMAS | {"layer_types": (None,)},
    "qwen2": _LLAMAS,
    "qwen3": _LLAMAS | {"attention_bias": (False,)},
}

MOST = 1 << 40  # of whatever is counted: no file has so much
MOST_LAYERS = 4096  # each is several modules before its numbers are looked for; the deepest published has 126
LARGEST = 1e30  # a float32 holds it


class Described(NamedTuple):
    """What a config.json says."""

    architecture: Architecture
    tied: bool  # the output matrix is the token embedding


def read_config(config: Mapping[str, Any], where: Path) -> Described:
    """What model the weights beside this config.json belong to.

    Its `hidden_act: relu` gives our `relu2`, which is right only if each block's two matrices are equal: the reader of
    the weights checks that.

    Args:
        where: the file, for the messages.

    Raises:
        UserError: a field has a value that no part of ours has.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in DEFAULTS:
        raise refused(where, "model_type", kind, _any_of(DEFAULTS))
    for field, values in SUPPORTED[kind].items():
        got = config.get(field, values[0])
        if got not in values:
            raise refused(where, field, got, _any_of(values))
    fields = _Fields({**DEFAULTS[kind], **config}, where)
    architecture = _gpt2(fields) if kind == "gpt2" else _llama(fields, kind)
    return Described(architecture, tied=fields.truth("tie_word_embeddings"))


def refused(where: Path | str, field: str, got: Any, wanted: str) -> UserError:
    """The sentence for a field that cannot be honoured."""
    try:
        shown = json.dumps(got)
    except RecursionError:
        shown = excerpt(got)
    return UserError(f"{where}: {field} is {shown:.80}; gptlab takes {wanted}")


def _any_of(values: Iterable[Any]) -> str:
    return " or ".join(json.dumps(value) for value in values)


class _Fields:
    """A config.json with every default in it."""

    def __init__(self, fields: dict[str, Any], where: Path | str) -> None:
        self.fields, self.where = fields, where

    def __getitem__(self, field: str) -> Any:
        return self.fields.get(field)

    def count(self, field: str, default: int | None = None, *, least: int = 1, most: int = MOST) -> int:
        """A whole number; null is the default, where there is one."""
        value = default if self[field] is None else self[field]
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise refused(self.where, field, self[field], f"a whole number from {least} to {most:,}")
        return value

    def truth(self, field: str) -> bool:
        """Whether it is so; null is no."""
        if not isinstance(self[field], bool | None):
            raise refused(self.where, field, self[field], "true or false")
        return bool(self[field])

    def number(self, field: str) -> float:
        """A finite number above 0."""
        value = self[field]
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < LARGEST:
            raise refused(self.where, field, value, f"a number above 0 and below {LARGEST:g}")
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
        n_layers=fields.count("n_layer", most=MOST_LAYERS),
        hidden_dim=fields.count("n_inner", 4 * emb_dim),
        qkv_bias=True,
        bias=True,
        positions="learned",
        rope_base=10_000.0,  # nothing turns
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
        n_layers=fields.count("num_hidden_layers", most=MOST_LAYERS),
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
    """Base and scaling: version 4 has them apart, as rope_theta and rope_scaling, version 5 in one rope_parameters."""
    name, trained = "rope_scaling" if fields["rope_scaling"] else "rope_parameters", "original_max_position_embeddings"
    given = fields[name] or {}
    if not isinstance(given, dict) or any(isinstance(value, dict) for value in given.values()):
        raise refused(fields.where, name, given, "one set of numbers for all layers")
    outside = {"rope_theta": fields["rope_theta"], trained: fields["max_position_embeddings"]}
    rope = _Fields({**outside, **given}, f"{fields.where}: {name}")
    base, kind = rope.number("rope_theta"), rope["rope_type"] or rope["type"] or "default"
    if rope["partial_rotary_factor"] not in (None, 1.0):
        raise refused(rope.where, "partial_rotary_factor", rope["partial_rotary_factor"], "1.0")
    if kind == "default":
        return base, None
    if kind == "linear":
        return base, {"type": "linear", "factor": rope.number("factor")}
    if kind != "llama3":
        raise refused(rope.where, "rope_type", kind, _any_of(("default", "linear", "llama3")))
    scaling = {key: rope.number(key) for key in ("factor", "low_freq_factor", "high_freq_factor")}
    original = (fields if fields[trained] else rope).count(trained)  # outside it comes first
    return base, {"type": "llama3", **scaling, "original_context_length": original}


def _window(fields: _Fields, kind: str) -> int | None:
    """The tokens that a token sees, itself included: transformers counts them as we do."""
    sliding_window = fields["sliding_window"] if kind == "mistral" or fields.truth("use_sliding_window") else None
    types, what = fields["layer_types"], "layer_types"
    if not types:  # the first layers are full
        n_layers, what = fields.count("num_hidden_layers", most=MOST_LAYERS), "max_window_layers"
        n_full = n_layers if sliding_window is None else 0 if kind == "mistral" else fields.count(what, least=0)
        types = ["full_attention"] * (n_full > 0) + ["sliding_attention"] * (n_full < n_layers)

    def all_are(name: str) -> bool:
        return isinstance(types, list) and all(one == name for one in types)

    if all_are("full_attention"):
        return None
    if all_are("sliding_attention") and sliding_window is not None:
        return fields.count("sliding_window")
    raise refused(fields.where, what, fields[what], "one window for all layers, or none")
