"""One transformer block.   B batch, T tokens, D embedding."""

from torch import Tensor, nn

from gptlab.model.attention import AttentionContext
from gptlab.model.cache import LayerCache


class Block(nn.Module):
    """x + attention(norm1(x)), then x + ff(norm2(x)): pre-norm, as GPT-2 and all that followed (arXiv 2002.04745)."""

    def __init__(
        self, *, attention: nn.Module, ff: nn.Module, norm1: nn.Module, norm2: nn.Module, drop_rate: float
    ) -> None:
        super().__init__()
        self.norm1, self.attention = norm1, attention
        self.norm2, self.ff = norm2, ff
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor, sight: AttentionContext, cache: LayerCache | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D)"""
        x = x + self.drop(self.attention(self.norm1(x), sight, cache))
        return x + self.drop(self.ff(self.norm2(x)))
