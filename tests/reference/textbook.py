"""Two decoders written straight from the papers, slowly and plainly, to hold ours against.

Nothing here is shared with gptlab: one sequence at a time, one head at a time, one query at a time, matrices applied as
x W + b with W (inputs, outputs). They run in the precision of their weights.

T tokens, D embedding, K head size, V vocabulary.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Linear:
    w: Tensor  # (inputs, outputs)
    b: Tensor | None  # (outputs,)

    def __call__(self, x: Tensor) -> Tensor:
        return x @ self.w if self.b is None else x @ self.w + self.b


@dataclass
class Norm:
    gain: Tensor  # (D,)
    shift: Tensor | None  # (D,), LayerNorm's only
    eps: float


@dataclass
class Layer:
    """One block. Each list has one projection a head; grouped queries have fewer keys and values."""

    norm1: Norm
    queries: list[Linear]  # D -> K
    keys: list[Linear]
    values: list[Linear]
    out: Linear
    norm2: Norm
    up: Linear
    down: Linear
    gate: Linear | None = None  # SwiGLU's
    q_norm: Norm | None = None
    k_norm: Norm | None = None


@dataclass
class Weights:
    tokens: Tensor  # (V, D)
    positions: Tensor | None  # (context, D), GPT-2's
    layers: list[Layer]
    final: Norm


# ---- GPT-2 (Radford et al. 2019; the block of Vaswani et al. 2017, its norms moved to the inputs) ----


def gpt2(ids: Tensor, weights: Weights) -> Tensor:
    """(T,) -> logits (T, V)"""
    x = torch.stack([weights.tokens[i] + weights.positions[t] for t, i in enumerate(ids.tolist())])
    for layer in weights.layers:
        a = layer_norm(x, layer.norm1)
        heads = [attention(q(a), k(a), v(a)) for q, k, v in zip(layer.queries, layer.keys, layer.values, strict=True)]
        x = x + layer.out(torch.cat(heads, dim=-1))
        x = x + layer.down(gelu(layer.up(layer_norm(x, layer.norm2))))
    return layer_norm(x, weights.final) @ weights.tokens.T


def layer_norm(x: Tensor, norm: Norm) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * gain + shift   (Ba et al. 2016)"""
    mean = x.mean(dim=-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(dim=-1, keepdim=True)
    y = (x - mean) / (variance + norm.eps).sqrt() * norm.gain
    return y if norm.shift is None else y + norm.shift


def gelu(x: Tensor) -> Tensor:
    """x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))   (Hendrycks and Gimpel 2016)"""
    return x / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def attention(q: Tensor, k: Tensor, v: Tensor, window: int | None = None) -> Tensor:
    """One head: each query averages the values it may see, weighted by softmax(q . k / sqrt(K)).   3 x (T, K) -> (T, K)

    window: how many tokens a token sees, itself and those just before it (Jiang et al. 2023); None is all before it.
    """
    rows = []
    for t in range(len(q)):
        seen = range(0 if window is None else max(0, t - window + 1), t + 1)
        scores = torch.stack([q[t] @ k[s] / math.sqrt(q.shape[-1]) for s in seen])
        powers = torch.exp(scores - scores.max())
        weights = powers / powers.sum()
        rows.append(sum(weight * v[s] for weight, s in zip(weights, seen, strict=True)))
    return torch.stack(rows)


# ---- a decoder of the Llama family (Touvron et al. 2023) ----


def llama(
    ids: Tensor, weights: Weights, *, rope_base: float, rope_factor: float = 1.0, window: int | None = None
) -> Tensor:
    """(T,) -> logits (T, V)

    rope_factor: positions are divided by it, to stretch a trained context (Chen et al. 2023).
    """
    x = torch.stack([weights.tokens[i] for i in ids.tolist()])
    for layer in weights.layers:
        a = rms_norm(x, layer.norm1)
        heads = []
        for h, query in enumerate(layer.queries):
            group = h * len(layer.keys) // len(layer.queries)  # neighbouring queries share a key (Ainslie et al. 2023)
            q, k, v = query(a), layer.keys[group](a), layer.values[group](a)
            if layer.q_norm is not None and layer.k_norm is not None:  # (Henry et al. 2020)
                q, k = rms_norm(q, layer.q_norm), rms_norm(k, layer.k_norm)
            heads.append(attention(turn(q, rope_base, rope_factor), turn(k, rope_base, rope_factor), v, window))
        x = x + layer.out(torch.cat(heads, dim=-1))
        x = x + feed_forward(rms_norm(x, layer.norm2), layer)
    return rms_norm(x, weights.final) @ weights.tokens.T


def rms_norm(x: Tensor, norm: Norm) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * gain   (Zhang and Sennrich 2019)"""
    return x / ((x**2).mean(dim=-1, keepdim=True) + norm.eps).sqrt() * norm.gain


def feed_forward(x: Tensor, layer: Layer) -> Tensor:
    """SwiGLU, silu(gate x) * up x (Shazeer 2020), where there is a gate; else the square of ReLU (So et al. 2021)."""
    if layer.gate is not None:
        gate = layer.gate(x)
        return layer.down(gate / (1 + torch.exp(-gate)) * layer.up(x))
    return layer.down(torch.clamp(layer.up(x), min=0) ** 2)


def turn(x: Tensor, base: float, factor: float) -> Tensor:
    """Rotary positions: pair i at position t, read as a complex number, is multiplied by exp(1j t base^(-2i/K)).

    (T, K) -> (T, K); a pair is one number of the head's first half and its like in the second (Su et al. 2021).
    """
    n_tokens, size = x.shape
    angles = [[t / factor * base ** (-2 * i / size) for i in range(size // 2)] for t in range(n_tokens)]
    pairs = torch.complex(x[:, : size // 2], x[:, size // 2 :])
    turned = pairs * torch.exp(1j * torch.tensor(angles, dtype=torch.float64)).to(pairs.dtype)
    return torch.cat([turned.real, turned.imag], dim=-1)
