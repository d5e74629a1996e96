"""FlexAttention for packed rows on a GPU (arXiv 2412.05496).

It skips the blocks of a mask that are fully masked.
B batch, T tokens, H query heads, G key/value heads, K head size.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention


def to_block_mask(mask: Tensor) -> BlockMask:
    """Return the mask with its empty 128 x 128 blocks marked.

    (B, 1, T, T)
    """

    def sees(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return mask[b, 0, query, key]

    B, _, T, S = mask.shape
    return create_block_mask(sees, B, None, T, S, device=str(mask.device))


def flex_attend(q: Tensor, k: Tensor, v: Tensor, block_mask: BlockMask) -> Tensor:
    """Attend where the block mask allows it.

    Gradients exist on a GPU only.
    q (B, H, T, K), k and v (B, G, T, K) -> (B, H, T, K)
    """
    out: Tensor = _kernel(q.is_cuda)(q, k, v, block_mask=block_mask, enable_gqa=q.size(1) != k.size(1))
    return out


@cache
def _kernel(compiled: bool) -> Any:
    return torch.compile(flex_attention) if compiled else flex_attention  # uncompiled it holds the (T, T) scores
