"""What `model=pretrained` leaves to be said: the weights say the rest."""

from dataclasses import dataclass

from gptlab.model.attention import Attention
from gptlab.slots import slot


@slot("model")
@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """What a run may choose about a model whose weights exist already.

    Args:
        context_length: the most tokens it reads at once, at most what it was trained for; None is that.
        drop_rate: as for `GPT`; it has no weights.
        attention: likewise.
    """

    context_length: int | None
    drop_rate: float
    attention: Attention
