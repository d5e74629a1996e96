"""What the model writes as it learns."""

import logging
import textwrap
from typing import Any

import lightning as L

from gptlab.slots import slot
from gptlab.training.context import RunContext
from gptlab.training.loggers import show_text

log = logging.getLogger(__name__)

WIDTH = 100  # characters of a line, in the terminal and on TensorBoard's page


@slot("callbacks.*")
class Samples(L.Callback):
    """What the model writes at each validation, in the terminal, train.log and TensorBoard's text page.

    Args:
        prompt: where it begins; None is the data's own: the first words of the held-out text, or questions.
        every_n_validations: 1 is each time.
    """

    def __init__(self, context: RunContext, *, prompt: str | None, every_n_validations: int) -> None:
        self.write, self.prompt, self.every = context.write, prompt, every_n_validations
        self.validations = 0

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes and shows it; a head that writes nothing is left in peace."""
        self.validations += 1
        if self.validations % self.every or not trainer.is_global_zero:
            return
        written = "\n\n".join(self.write(self.prompt))
        if not written:
            return
        text = "\n".join(textwrap.fill(line, WIDTH) for line in written.split("\n"))
        show_text(trainer, "samples", text)
        log.info(textwrap.indent(text.strip(), "    ") + "\n")

    def state_dict(self) -> dict[str, Any]:
        """Which validation it was, for a run that goes on."""
        return {"validations": self.validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse."""
        self.validations = int(state_dict["validations"])
