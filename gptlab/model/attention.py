"""Causal self-attention ("Attention Is All You Need"; the book, chapter 3).

B batch, T new tokens, S visible tokens (cached and new), D embedding, H query heads, G key/value heads, K head size.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask

from gptlab.errors import UserError
from gptlab.model.cache import LayerCache
from gptlab.model.flex import flex_attend
from gptlab.model.linear import Linear
from gptlab.model.norm import RMSNorm
from gptlab.model.rotary import apply_rotary

Attention = Literal["fused", "naive", "flex"]


class AttentionContext(NamedTuple):
    """The values that all layers share in one forward pass."""

    mask: Tensor | BlockMask | None  # (T, S) or (B, 1, T, S) bool, True where a query may look; None: causal
    document_lengths: list[list[int]] | None  # of each row, to attend within each document; None: by the mask
    rotary: tuple[Tensor, Tensor] | None  # cos and sin, (..., T, K/2) each; None without rotary positions


def attention_probabilities(q: Tensor, k: Tensor, *, mask: Tensor | None) -> Tensor:
    """softmax(q k^T / sqrt(K)), over visible tokens.

    q (B, H, T, K), k (B, G, S, K) -> (B, H, T, S)
    """
    T, S = q.size(-2), k.size(-2)
    k = k.repeat_interleave(q.size(1) // k.size(1), dim=1)  # (B, H, S, K)
    if mask is None:
        mask = torch.ones(T, S, dtype=torch.bool, device=q.device).tril(S - T)
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))  # (B, H, T, S)
    return scores.masked_fill(~mask, -math.inf).softmax(dim=-1)


def naive_attention(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, dropout: float) -> Tensor:
    """softmax(q k^T / sqrt(K)) v, over visible tokens.

    The formula written out ("Attention Is All You Need", eq. 1), as in the book, chapter 3.
    q (B, H, T, K), k and v (B, G, S, K) -> (B, H, T, K)
    """
    weights = attention_probabilities(q, k, mask=mask)  # (B, H, T, S)
    v = v.repeat_interleave(q.size(1) // v.size(1), dim=1)  # (B, H, S, K)
    return F.dropout(weights, dropout) @ v


# On a CPU the gradient of rows up to this length is slower in bfloat16 than in float32, by several times at 64 tokens
# (python -m tests.benchmarks.attention)
SHORT_ROW_TOKENS = 128


def fused_attention(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, dropout: float) -> Tensor:
    """Compute attention with PyTorch's fused kernels (FlashAttention, arXiv 2205.14135).

    They never hold the (T, S) scores. Without a mask either T = S, or T = 1 and every token is visible.
    q (B, H, T, K), k and v (B, G, S, K) -> (B, H, T, K)
    """
    if q.requires_grad and q.dtype == torch.bfloat16 and q.device.type == "cpu" and k.size(-2) <= SHORT_ROW_TOKENS:
        with torch.autocast("cpu", enabled=False):  # autocast would cast them back to bfloat16
            return fused_attention(q.float(), k.float(), v.float(), mask=mask, dropout=dropout).to(q.dtype)
    return F.scaled_dot_product_attention(
        q, k, v, mask, dropout, is_causal=mask is None and q.size(-2) > 1, enable_gqa=q.size(1) != k.size(1)
    )


def flexible_attention(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | BlockMask | None, dropout: float) -> Tensor:
    """Compute attention, skipping the empty blocks of a BlockMask.

    Any other mask goes to the fused kernels.
    q (B, H, T, K), k and v (B, G, S, K) -> (B, H, T, K)
    """
    if isinstance(mask, Tensor) or mask is None:
        return fused_attention(q, k, v, mask=mask, dropout=dropout)
    return flex_attend(q, k, v, mask)


ATTENTIONS: dict[str, Callable[..., Tensor]] = {
    "fused": fused_attention,
    "naive": naive_attention,
    "flex": flexible_attention,
}


def attend_per_document(
    attend: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, *, lengths: list[list[int]], dropout: float
) -> Tensor:
    """Attend within each document of each row separately.

    Scores that a mask would hide are not computed.
    q (B, H, T, K), k and v (B, G, T, K) -> (B, H, T, K); `lengths` add up to T in each row.
    """
    rows = []
    for i, sizes in enumerate(lengths):
        documents = zip(*(x[i : i + 1].split(sizes, dim=2) for x in (q, k, v)), strict=True)
        rows.append(torch.cat([attend(*document, mask=None, dropout=dropout) for document in documents], dim=2))
    return torch.cat(rows)


class CausalSelfAttention(nn.Module):
    """Causal multi-head attention ("Attention Is All You Need", 3.2).

    (B, T, D) -> (B, T, D)

    Args:
        n_kv_heads: key/value heads, each shared by a group of query heads (GQA, arXiv 2305.13245); n_heads is
            plain multi-head attention.
        qk_norm: RMS-normalise each head's queries and keys before their product (arXiv 2010.04245).
        drop_rate: dropout on the attention weights; the block has its own on the residual branches.

    Raises:
        UserError: n_heads is not a multiple of n_kv_heads.
    """

    def __init__(
        self,
        *,
        emb_dim: int,
        n_heads: int,
        n_kv_heads: int,
        head_dim: int,
        drop_rate: float,
        qkv_bias: bool,
        bias: bool,
        qk_norm: bool,
        norm_eps: float,
        attention: Attention,
    ) -> None:
        super().__init__()
        if n_heads % n_kv_heads:
            raise UserError(f"n_heads is {n_heads}, not a multiple of n_kv_heads, {n_kv_heads}: choose a divisor")
        self.n_heads, self.n_kv_heads, self.head_dim, self.drop_rate = n_heads, n_kv_heads, head_dim, drop_rate
        self.qkv = Linear(emb_dim, (n_heads + 2 * n_kv_heads) * head_dim, bias=qkv_bias)
        self.out = Linear(n_heads * head_dim, emb_dim, bias=bias)
        self.q_norm = RMSNorm(head_dim, norm_eps) if qk_norm else nn.Identity()
        self.k_norm = RMSNorm(head_dim, norm_eps) if qk_norm else nn.Identity()
        self.attend = ATTENTIONS[attention]

    def forward(self, x: Tensor, context: AttentionContext, cache: LayerCache | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D)

        Args:
            cache: keys and values of the past, to which those of x are appended.
        """
        sizes = [n_heads * self.head_dim for n_heads in (self.n_heads, self.n_kv_heads, self.n_kv_heads)]
        q, k, v = (y.unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for y in self.qkv(x).split(sizes, dim=-1))
        q, k = self.q_norm(q), self.k_norm(k)
        if context.rotary is not None:
            q, k = apply_rotary(q, *context.rotary), apply_rotary(k, *context.rotary)
        q, k = q.to(v.dtype), k.to(v.dtype)  # under autocast the norms give float32
        if cache is not None:
            k, v = cache.append(k, v)  # (B, G, S, K)
        dropout = self.drop_rate if self.training else 0.0
        if context.document_lengths is not None:
            heads = attend_per_document(self.attend, q, k, v, lengths=context.document_lengths, dropout=dropout)
        else:
            heads = self.attend(q, k, v, mask=context.mask, dropout=dropout)  # (B, H, T, K)
        return self.out(heads.transpose(1, 2).flatten(2))
