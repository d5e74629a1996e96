"""The GPT (the book, chapter 4).

B batch, T tokens, D embedding, V vocabulary, K head size.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask
from torch.utils.checkpoint import checkpoint

from gptlab.bounds import AtLeast, LessThan, MoreThan
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
    """A decoder-only transformer: embeddings, blocks, a final norm.

    (B, T) -> (B, T, D), which a head projects onto the vocabulary. One class covers GPT-2, Llama, Mistral and Qwen.

    Args:
        vocab_size: V, how many different ids it reads.
        context_length: the most tokens it reads at once.
        n_kv_heads: key/value heads, each shared by a group of query heads; None is n_heads.
        head_dim: K, the size of a head; None is emb_dim / n_heads.
        hidden_dim: width of the feed-forward layer; None is the usual one of its kind (feed_forward.py).
        drop_rate: dropout on embeddings, attention weights and residual branches.
        qkv_bias: a bias on queries, keys and values.
        bias: a bias on every other linear layer and LayerNorm.
        positions: `learned` vectors added to the tokens' (GPT-2), or `rotary` rotations of queries and keys (Llama).
        rope_base, rope_scaling: the frequencies of rotary positions (rotary.py).
        qk_norm: RMS-normalise queries and keys (Qwen).
        sliding_window: how many tokens a token sees, itself included (Mistral); None is all.
        attention: PyTorch's `fused` kernels; `naive`, the formula written out; or `flex`, which on a GPU skips the
            fully masked blocks between packed documents.
        init: the distribution of the initial weights, see `initialise`.

    Raises:
        UserError: n_heads does not divide emb_dim and head_dim is None; head_dim is odd with rotary positions;
            sliding_window is below 1; rope_scaling has an unknown type or keys.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        context_length: Annotated[int, AtLeast(1)],
        emb_dim: Annotated[int, AtLeast(1)],
        n_heads: Annotated[int, AtLeast(1)],
        n_kv_heads: Annotated[int, AtLeast(1)] | None,
        head_dim: Annotated[int, AtLeast(1)] | None,
        n_layers: Annotated[int, AtLeast(1)],
        hidden_dim: Annotated[int, AtLeast(1)] | None,
        drop_rate: Annotated[float, AtLeast(0), LessThan(1)],
        qkv_bias: bool,
        bias: bool,
        positions: Literal["learned", "rotary"],
        rope_base: Annotated[float, MoreThan(0)],
        rope_scaling: Mapping[str, Any] | None,
        norm: NormKind,
        norm_eps: Annotated[float, MoreThan(0)],
        feed_forward: FeedForwardKind,
        qk_norm: bool,
        sliding_window: Annotated[int, AtLeast(1)] | None,
        attention: Attention,
        init: Init,
    ) -> None:
        super().__init__()
        if head_dim is None and emb_dim % n_heads:
            raise UserError(f"emb_dim is {emb_dim}, not a multiple of n_heads, {n_heads}: change one, or give head_dim")
        self.head_dim = head_dim or emb_dim // n_heads
        if positions == "rotary" and self.head_dim % 2:
            raise UserError(f"head_dim is {self.head_dim}, but rotary positions rotate pairs: choose an even one")
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

        self.recompute = False  # activation checkpointing: recompute each block in backward
        self.tok_emb = nn.Embedding(vocab_size, emb_dim)
        self.pos_emb = nn.Embedding(context_length, emb_dim) if positions == "learned" else None
        self.drop_emb = nn.Dropout(drop_rate)
        self.blocks = nn.ModuleList(new_block() for _ in range(n_layers))
        self.final_norm = new_norm()
        initialise(self, init=init, n_layers=n_layers)

    def forward(self, ids: Tensor, *, segments: Tensor | None = None, cache: KVCache | None = None) -> Tensor:
        """(B, T) -> (B, T, D)

        Args:
            segments: (B, T), the document each token belongs to: attention stays within it, and positions restart.
            cache: the tokens already read, to which these are added; gives the same vectors as reading all at once.

        Raises:
            UserError: more tokens than context_length.
        """
        T, n_past = ids.size(1), cache.length if cache is not None else 0
        if n_past + T > self.context_length:
            raise UserError(f"{n_past + T} tokens, but the model reads at most context_length={self.context_length}")
        positions = token_positions(T, n_past, segments=segments, device=ids.device)  # (T,) or (B, T)
        x = self.tok_emb(ids).to(self.dtype)  # (B, T, D)
        context = self._attention_context(positions, n_past, segments, x)
        if self.pos_emb is not None:
            x = x + self.pos_emb(positions)
        x = self.drop_emb(x)
        for i, block in enumerate(self.blocks):
            if self.recompute and self.training:
                x = checkpoint(block, x, context, use_reentrant=False)
            else:
                x = block(x, context, cache.layers[i] if cache is not None else None)
        return self.final_norm(x)

    @property
    def dtype(self) -> torch.dtype:
        """Return the dtype of the residual stream, that of the norms.

        Frozen matrices may be stored in a narrower one.
        """
        return cast(Tensor, self.final_norm.weight).dtype

    def _attention_context(
        self, positions: Tensor, n_past: int, segments: Tensor | None, x: Tensor
    ) -> AttentionContext:
        """Return the mask or document lengths, and the rotary angles.

        positions (T,) or (B, T), segments (B, T), x (B, T, D)
        """
        T, window = x.size(1), self.sliding_window
        lengths = None if segments is None else document_lengths(segments, sliding_window=window)
        mask: Tensor | BlockMask | None = None
        if not lengths:
            mask = causal_mask(T, n_past, sliding_window=window, segments=segments, device=x.device)
        drops = self.training and self.drop_emb.p > 0
        if self.attention == "flex" and isinstance(mask, Tensor) and segments is not None and x.is_cuda and not drops:
            mask = to_block_mask(mask)  # flex attention has gradients on a GPU only, and no dropout
        rotary = None if self.pos_emb is not None else self._rotary(positions, x.dtype)
        return AttentionContext(mask=mask, document_lengths=lengths, rotary=rotary)

    def _rotary(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return the rotary cosines and sines of these positions."""
        return rotary_cos_sin(positions, self.head_dim, base=self.rope_base, scaling=self.rope_scaling, dtype=dtype)

    def embeddings(self, ids: Tensor) -> dict[str, Tensor]:
        """Return the input embeddings of one text by name, for a plot.

        (T,) -> vectors (T, D), and with rotary positions the cosines of the angles (T, K/2)
        """
        tokens, index = self.tok_emb(ids).to(self.dtype), torch.arange(len(ids), device=ids.device)
        if self.pos_emb is not None:
            positions = self.pos_emb(index).to(self.dtype)
            return {"tok_emb": tokens, "pos_emb": positions, "tok_emb + pos_emb": tokens + positions}
        cos, _ = self._rotary(index, tokens.dtype)
        return {"tok_emb": tokens, "cos of each position's angles": cos}

    def new_cache(self, capacity: int) -> KVCache:
        """Return an empty cache for at most `capacity` tokens."""
        return KVCache(n_layers=self.n_layers, capacity=min(capacity, self.context_length))
