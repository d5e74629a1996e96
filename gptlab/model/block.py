"""One transformer block (the book, chapter 4).

B batch, T tokens, D embedding.
"""

from torch import Tensor, nn

from gptlab.model.attention import AttentionContext
from gptlab.model.cache import LayerCache


class Block(nn.Module):
    """x + attention(norm1(x)), then x + ff(norm2(x)).

    (B, T, D) -> (B, T, D)

    Norms come first, as in GPT-2 and every model since (pre-norm, arXiv 2002.04745).
    """

    def __init__(
        self, *, attention: nn.Module, ff: nn.Module, norm1: nn.Module, norm2: nn.Module, drop_rate: float
    ) -> None:
        super().__init__()
        self.norm1, self.attention = norm1, attention
        self.norm2, self.ff = norm2, ff
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor, context: AttentionContext, cache: LayerCache | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D)"""
        x = x + self.drop(self.attention(self.norm1(x), context, cache))
        return x + self.drop(self.ff(self.norm2(x)))
