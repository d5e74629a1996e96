"""Generated text at each validation."""

import logging
import textwrap
from typing import Annotated, Any

import lightning as L

from gptlab.bounds import AtLeast
from gptlab.slots import slot
from gptlab.training.context import RunContext
from gptlab.training.loggers import show_picture, show_text

log = logging.getLogger(__name__)

PAGE_WIDTH, LOG_WIDTH = 100, 76  # characters of a line, on TensorBoard's text page and in the log


@slot("callbacks.*")
class Samples(L.Callback):
    """Show sample texts at each validation.

    They appear in the terminal, in train.log and on TensorBoard's text page. On its image page, each token has the
    colour of its probability.

    Args:
        prompt: the text to continue; None stands for the data's own prompts, from the held-out text or questions.
        every_n_validations: show samples at every n-th validation, and before the first step if it validates.
        picture: whether to draw the tokens too.
        held_out_tokens: how many tokens of the first held-out row are drawn likewise; 0 is none.
    """

    def __init__(
        self,
        context: RunContext,
        *,
        prompt: str | None,
        every_n_validations: Annotated[int, AtLeast(1)],
        picture: bool,
        held_out_tokens: Annotated[int, AtLeast(0)],
    ) -> None:
        self.write_samples, self.prompt, self.every = context.write_samples, prompt, every_n_validations
        self.pictures, self.picture, self.held_out_tokens = context.pictures, picture, held_out_tokens
        self.validations = 0

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Generate and show the texts, and draw their tokens.

        Skipped for heads that generate no text.
        """
        self.validations += trainer.global_step > 0  # the one before the first step is always shown
        if self.validations % self.every or not trainer.is_global_zero:
            return
        samples = self.write_samples(self.prompt)
        if text := "\n\n".join(sample.text for sample in samples):
            show_text(trainer, "samples", _fill(text, PAGE_WIDTH))
            log.info(textwrap.indent(_fill(text, LOG_WIDTH).strip(), "    ") + "\n", extra={"style": "dim"})
            if self.picture:
                show_picture(trainer, "val_samples/probabilities", self.pictures.samples(samples))
        if self.held_out_tokens and self.pictures.held_out is not None:
            show_picture(trainer, "val_samples/held_out", self.pictures.held_out(self.held_out_tokens))

    def state_dict(self) -> dict[str, Any]:
        """Return the count of validations."""
        return {"validations": self.validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the count of validations."""
        self.validations = int(state_dict["validations"])


def _fill(text: str, width: int) -> str:
    """Return a text with its lines broken at `width` characters."""
    return "\n".join(textwrap.fill(line, width) for line in text.split("\n"))
