"""Attention maps of a fixed text at each validation."""

from typing import Annotated, Any

import lightning as L

from gptlab.bounds import AtLeast
from gptlab.slots import slot
from gptlab.training.context import MapChoice, RunContext
from gptlab.training.loggers import show_picture


@slot("callbacks.*")
class AttentionMaps(L.Callback):
    """Draw where the tokens of a text look, at each validation.

    The text stays the same, so that TensorBoard's slider shows how heads change over training. A model whose attention
    is not gptlab's has no maps.

    Args:
        text: the text to read; None is the first held-out one, as the run reads it.
        n_tokens: the most of its tokens.
        layers: numbers of layers, from 0 on, negative ones from the last; None is all.
        heads: numbers of heads, likewise; None is all, or four spread evenly over more.
        every_n_validations: draw at every n-th validation, and before the first step if it validates.

    Raises:
        UserError: the model has no such layer or head, or the text cannot be encoded.
    """

    def __init__(
        self,
        context: RunContext,
        *,
        text: str | None,
        n_tokens: Annotated[int, AtLeast(1)],
        layers: list[int] | None,
        heads: list[int] | None,
        every_n_validations: Annotated[int, AtLeast(1)],
    ) -> None:
        self.draw = context.pictures.attention(MapChoice(text, n_tokens, layers, heads))
        self.every, self.validations = every_n_validations, 0

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the maps."""
        self.validations += trainer.global_step > 0  # the one before the first step is always shown
        if self.draw is not None and self.validations % self.every == 0 and trainer.is_global_zero:
            show_picture(trainer, "val_attention/maps", self.draw())

    def state_dict(self) -> dict[str, Any]:
        """Return the count of validations."""
        return {"validations": self.validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the count of validations."""
        self.validations = int(state_dict["validations"])
