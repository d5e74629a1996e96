"""Attention that skips what a mask hides, block by block (FlexAttention, arXiv 2412.05496): packed rows on a GPU.

B batch, T tokens, H query heads, G key/value heads, K head size.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention


def to_block_mask(mask: Tensor) -> BlockMask:
    """The same mask, that knows its blocks of 128 x 128 in which nothing is seen.   (B, 1, T, T)"""

    def sees(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return mask[b, 0, query, key]

    B, _, T, S = mask.shape
    return create_block_mask(sees, B, None, T, S, device=str(mask.device))


def flex_attend(q: Tensor, k: Tensor, v: Tensor, blocks: BlockMask) -> Tensor:
    """q (B, H, T, K), k and v (B, G, T, K) -> (B, H, T, K); gradients on a GPU only."""
    out: Tensor = _kernel(q.is_cuda)(q, k, v, block_mask=blocks, enable_gqa=q.size(1) != k.size(1))
    return out


@cache
def _kernel(compiled: bool) -> Any:
    return torch.compile(flex_attention) if compiled else flex_attention  # which holds the (T, T) scores
