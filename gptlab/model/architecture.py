"""A model's architecture as plain values."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from torch import nn

from gptlab.bounds import AtLeast, LessThan
from gptlab.model.attention import Attention
from gptlab.model.feed_forward import FeedForwardKind, SwiGLU, gelu
from gptlab.model.gpt import GPT
from gptlab.model.norm import NormKind, RMSNorm
from gptlab.slots import slot


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The arguments of a GPT that its weights depend on.

    The names are those of `GPT`. Sizes that `GPT` can derive, such as head_dim, are filled in.
    """

    vocab_size: int
    context_length: int
    emb_dim: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    n_layers: int
    hidden_dim: int
    qkv_bias: bool
    bias: bool
    positions: Literal["learned", "rotary"]
    rope_base: float
    rope_scaling: dict[str, Any] | None
    norm: NormKind
    norm_eps: float
    feed_forward: FeedForwardKind
    qk_norm: bool
    sliding_window: int | None


def architecture_of(model: GPT) -> Architecture:
    """Read the architecture from a model's modules.

    The result does not depend on which arguments were given and which derived.
    """
    block: Any = model.blocks[0]
    attention, ff = block.attention, block.ff
    assert isinstance(model.final_norm, nn.LayerNorm | RMSNorm)
    return Architecture(
        vocab_size=model.vocab_size,
        context_length=model.context_length,
        emb_dim=model.emb_dim,
        n_heads=attention.n_heads,
        n_kv_heads=attention.n_kv_heads,
        head_dim=model.head_dim,
        n_layers=model.n_layers,
        hidden_dim=ff.out.in_features,
        qkv_bias=attention.qkv.bias is not None,
        bias=attention.out.bias is not None,
        positions="rotary" if model.pos_emb is None else "learned",
        rope_base=model.rope_base,
        rope_scaling=None if model.rope_scaling is None else dict(model.rope_scaling),
        norm="layer" if isinstance(model.final_norm, nn.LayerNorm) else "rms",
        norm_eps=float(model.final_norm.eps or 0.0),
        feed_forward="swiglu" if isinstance(ff, SwiGLU) else "gelu" if ff.activation is gelu else "relu2",
        qk_norm=isinstance(attention.q_norm, RMSNorm),
        sliding_window=model.sliding_window,
    )


@slot("model")
@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """The options of a model with pretrained weights.

    Args:
        context_length: the most tokens the model reads at once; None is the trained length, which is the maximum.
        row_length: most tokens of a training row, if context_length is None and the model reads more; None is no limit.
        drop_rate, attention: see `GPT`; no weight depends on them.
    """

    context_length: Annotated[int, AtLeast(1)] | None
    row_length: Annotated[int, AtLeast(1)] | None
    drop_rate: Annotated[float, AtLeast(0), LessThan(1)]
    attention: Attention
