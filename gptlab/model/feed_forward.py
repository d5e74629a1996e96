"""The feed-forward half of a block.

Each token passes through a wider layer by itself ("Attention Is All You Need", 3.3).
B batch, T tokens, D embedding, F hidden.
"""

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.model.cpu_kernels import ReLU2Kernel, recompute_linear
from gptlab.model.linear import Linear

FeedForwardKind = Literal["gelu", "swiglu", "relu2"]


def gelu(x: Tensor) -> Tensor:
    """GPT-2's GELU (arXiv 1606.08415).

    0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
    """
    return F.gelu(x, approximate="tanh")


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up (arXiv 2002.05202)."""
    return F.silu(gate) * up


def relu2(x: Tensor) -> Tensor:
    """max(x, 0)^2 (Primer, arXiv 2109.08668)."""
    return ReLU2Kernel.apply(x)  # F.relu(x).square() with a cheaper gradient


class FeedForward(nn.Module):
    """out(activation(up(x))).

    (B, T, D) -> (B, T, F) -> (B, T, D)

    Args:
        hidden_dim: F; None is 4 D, as in GPT-2 and the book (chapter 4).
    """

    def __init__(
        self, *, emb_dim: int, hidden_dim: int | None, bias: bool, activation: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        hidden_dim = hidden_dim or 4 * emb_dim
        self.up = Linear(emb_dim, hidden_dim, bias=bias)
        self.out = Linear(hidden_dim, emb_dim, bias=bias)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)"""
        return recompute_linear(self.out, self.activation, self.up(x))  # out(activation(up(x)))


class SwiGLU(nn.Module):
    """out(silu(gate(x)) * up(x)), a gated layer (arXiv 2002.05202).

    (B, T, D) -> (B, T, D)

    Args:
        hidden_dim: F; None is 8/3 D rounded up to a multiple of 64, so that the three matrices of a gated layer have
            about as many numbers as the two of a plain one.
    """

    def __init__(self, *, emb_dim: int, hidden_dim: int | None, bias: bool) -> None:
        super().__init__()
        hidden_dim = hidden_dim or -(-8 * emb_dim // (3 * 64)) * 64
        self.gate = Linear(emb_dim, hidden_dim, bias=bias)
        self.up = Linear(emb_dim, hidden_dim, bias=bias)
        self.out = Linear(hidden_dim, emb_dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)"""
        return recompute_linear(self.out, swiglu, self.gate(x), self.up(x))  # out(silu(gate(x)) * up(x))


def make_feed_forward(kind: FeedForwardKind, *, emb_dim: int, hidden_dim: int | None, bias: bool) -> nn.Module:
    """Build a feed-forward layer by name."""
    if kind == "swiglu":
        return SwiGLU(emb_dim=emb_dim, hidden_dim=hidden_dim, bias=bias)
    activation = {"gelu": gelu, "relu2": relu2}[kind]
    return FeedForward(emb_dim=emb_dim, hidden_dim=hidden_dim, bias=bias, activation=activation)
