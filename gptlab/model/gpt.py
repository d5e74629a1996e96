"""The GPT.   B batch, T tokens, D embedding, V vocabulary, K head size."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask
from torch.utils.checkpoint import checkpoint

from gptlab.errors import UserError
from gptlab.model.attention import Attention, AttentionContext, CausalSelfAttention
from gptlab.model.block import Block
from gptlab.model.cache import KVCache
from gptlab.model.feed_forward import FeedForwardKind, make_feed_forward
from gptlab.model.flex import to_block_mask
from gptlab.model.init import Init, initialise
from gptlab.model.mask import causal_mask, document_lengths, token_positions
from gptlab.model.norm import NormKind, make_norm
from gptlab.model.rotary import check_scaling, rotary_cos_sin
from gptlab.slots import slot


@slot("model")
class GPT(nn.Module):
    """A decoder-only transformer: embeddings, blocks, a last norm. One class is a GPT-2 and a Llama.

    Args:
        vocab_size: V, the ids it reads.
        context_length: the most tokens it reads at once.
        n_kv_heads: key/value heads shared by groups of query heads; None is n_heads.
        head_dim: numbers a head has; None is emb_dim / n_heads.
        hidden_dim: width of the feed-forward layer; None is the usual one of its kind.
        drop_rate: dropout on embeddings, attention weights and residual branches.
        qkv_bias: a bias on queries, keys and values; `bias` is on every other linear layer and LayerNorm.
        positions: `learned` vectors added to the tokens' (GPT-2), or `rotary` turns of queries and keys.
        window: how many tokens a token sees, itself included; None is all.
        attention: PyTorch's `fused` kernels; `naive`, the formula written out; `flex`, which on a GPU skips what packed
            documents do not see of each other.
        init: how the weights start, see `initialise`.

    Raises:
        UserError: n_heads does not divide emb_dim and head_dim is None; head_dim is odd with rotary positions; a
            window below 1; a rope_scaling of unknown type or keys.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        context_length: int,
        emb_dim: int,
        n_heads: int,
        n_kv_heads: int | None,
        head_dim: int | None,
        n_layers: int,
        hidden_dim: int | None,
        drop_rate: float,
        qkv_bias: bool,
        bias: bool,
        positions: Literal["learned", "rotary"],
        rope_base: float,
        rope_scaling: Mapping[str, Any] | None,
        norm: NormKind,
        norm_eps: float,
        feed_forward: FeedForwardKind,
        qk_norm: bool,
        sliding_window: int | None,
        attention: Attention,
        init: Init,
    ) -> None:
        super().__init__()
        if head_dim is None and emb_dim % n_heads:
            raise UserError(f"emb_dim is {emb_dim}, no multiple of n_heads, {n_heads}: change one, or give head_dim")
        self.head_dim = head_dim or emb_dim // n_heads
        if positions == "rotary" and self.head_dim % 2:
            raise UserError(f"head_dim is {self.head_dim}, but rotary positions turn pairs: choose an even one")
        if sliding_window is not None and sliding_window < 1:
            raise UserError(
                f"sliding_window is {sliding_window}, but a token sees at least itself: give 1 or more, or null for all"
            )
        check_scaling(rope_scaling)
        self.vocab_size, self.context_length, self.emb_dim = vocab_size, context_length, emb_dim
        self.n_layers, self.sliding_window, self.init, self.attention = n_layers, sliding_window, init, attention
        self.rope_base, self.rope_scaling = rope_base, rope_scaling

        def new_norm() -> nn.Module:
            return make_norm(norm, emb_dim, eps=norm_eps, bias=bias)

        def new_block() -> Block:
            attend = CausalSelfAttention(
                emb_dim=emb_dim,
                n_heads=n_heads,
                n_kv_heads=n_kv_heads or n_heads,
                head_dim=self.head_dim,
                drop_rate=drop_rate,
                qkv_bias=qkv_bias,
                bias=bias,
                qk_norm=qk_norm,
                norm_eps=norm_eps,
                attention=attention,
            )
            ff = make_feed_forward(feed_forward, emb_dim=emb_dim, hidden_dim=hidden_dim, bias=bias)
            return Block(attention=attend, ff=ff, norm1=new_norm(), norm2=new_norm(), drop_rate=drop_rate)

        self.recompute = False  # training keeps no block's activations, computing them again for the gradient
        self.tok_emb = nn.Embedding(vocab_size, emb_dim)
        self.pos_emb = nn.Embedding(context_length, emb_dim) if positions == "learned" else None
        self.drop_emb = nn.Dropout(drop_rate)
        self.blocks = nn.ModuleList(new_block() for _ in range(n_layers))
        self.final_norm = new_norm()
        initialise(self, init=init, n_layers=n_layers)

    def forward(self, ids: Tensor, *, segments: Tensor | None = None, cache: KVCache | None = None) -> Tensor:
        """(B, T) -> (B, T, D)

        Args:
            segments: (B, T), the document each token belongs to: attention and positions never cross a border.
            cache: the tokens already read, to which these are added; gives the same vectors as reading all at once.

        Raises:
            UserError: more tokens than context_length.
        """
        T, past = ids.size(1), cache.length if cache is not None else 0
        if past + T > self.context_length:
            raise UserError(f"{past + T} tokens, but the model reads at most context_length={self.context_length}")
        where = token_positions(T, past, segments=segments, device=ids.device)  # (T,) or (B, T)
        x = self.tok_emb(ids)  # (B, T, D)
        lengths = None if segments is None else document_lengths(segments, sliding_window=self.sliding_window)
        mask: Tensor | BlockMask | None = None
        if not lengths:
            mask = causal_mask(T, past, sliding_window=self.sliding_window, segments=segments, device=ids.device)
        drops = self.training and self.drop_emb.p > 0
        if self.attention == "flex" and isinstance(mask, Tensor) and segments is not None and ids.is_cuda and not drops:
            mask = to_block_mask(mask)  # its kernels have gradients on a GPU only, and no dropout
        sight = AttentionContext(
            mask=mask,
            lengths=lengths,
            rotation=None
            if self.pos_emb is not None
            else rotary_cos_sin(where, self.head_dim, base=self.rope_base, scaling=self.rope_scaling, dtype=x.dtype),
        )
        if self.pos_emb is not None:
            x = x + self.pos_emb(where)
        x = self.drop_emb(x)
        for i, block in enumerate(self.blocks):
            if self.recompute and self.training:
                x = checkpoint(block, x, sight, use_reentrant=False)
            else:
                x = block(x, sight, cache.layers[i] if cache is not None else None)
        return self.final_norm(x)

    def embeddings(self, ids: Tensor) -> dict[str, Tensor]:
        """How tokens enter, to be looked at.   (T,) -> vectors (T, D); with rotary positions also cosines (T, K/2)"""
        tokens, where = self.tok_emb(ids), torch.arange(len(ids), device=ids.device)
        if self.pos_emb is not None:
            positions = self.pos_emb(where)
            return {"tok_emb": tokens, "pos_emb": positions, "tok_emb + pos_emb": tokens + positions}
        turns = rotary_cos_sin(where, self.head_dim, base=self.rope_base, scaling=self.rope_scaling, dtype=tokens.dtype)
        return {"tok_emb": tokens, "cos of each position's angles": turns[0]}

    def new_cache(self, capacity: int) -> KVCache:
        """An empty cache for at most `capacity` tokens."""
        return KVCache(n_layers=self.n_layers, capacity=min(capacity, self.context_length))
