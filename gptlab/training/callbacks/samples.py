"""Generated text at each validation."""

import logging
import textwrap
from typing import Annotated, Any

import lightning as L

from gptlab.bounds import AtLeast
from gptlab.slots import slot
from gptlab.training.context import RunContext
from gptlab.training.loggers import show_text

log = logging.getLogger(__name__)

LINE_CHARACTERS = 100  # in the terminal and on TensorBoard's text page


@slot("callbacks.*")
class Samples(L.Callback):
    """Show sample texts at each validation.

    They appear in the terminal, in train.log and on TensorBoard's text page.

    Args:
        prompt: the text to continue; None stands for the data's own prompts, from the held-out text or questions.
        every_n_validations: show samples at every n-th validation, and before the first step if it validates.
    """

    def __init__(
        self, context: RunContext, *, prompt: str | None, every_n_validations: Annotated[int, AtLeast(1)]
    ) -> None:
        self.write_samples, self.prompt, self.every = context.write_samples, prompt, every_n_validations
        self.validations = 0

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Generate and show the texts.

        Skipped for heads that generate no text.
        """
        self.validations += trainer.global_step > 0  # the one before the first step is always shown
        if self.validations % self.every or not trainer.is_global_zero:
            return
        samples = "\n\n".join(self.write_samples(self.prompt))
        if not samples:
            return
        text = "\n".join(textwrap.fill(line, LINE_CHARACTERS) for line in samples.split("\n"))
        show_text(trainer, "samples", text)
        log.info(textwrap.indent(text.strip(), "    ") + "\n")

    def state_dict(self) -> dict[str, Any]:
        """Return the count of validations."""
        return {"validations": self.validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the count of validations."""
        self.validations = int(state_dict["validations"])
