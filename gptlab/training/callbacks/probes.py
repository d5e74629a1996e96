"""What the model understands of the held-out text, followed as it learns."""

from typing import Any

import lightning as L

from gptlab.slots import slot
from gptlab.training.context import RunContext

PROBE_KINDS = ("last_word", "word_order", "passage")  # of questions


@slot("callbacks.*")
class Probes(L.Callback):
    """Asks the questions of `gptlab evaluate` at each validation: `val/last_word`, `val/word_order`, `val/passage`.

    Each is the share answered rightly, see gptlab/evaluation/understanding.py.

    Args:
        n_questions: of each kind.
    """

    def __init__(self, context: RunContext, *, n_questions: int) -> None:
        self.understand, self.n_questions = context.understand, n_questions

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Beside the head's own numbers, from where everybody takes those of a validation."""
        if self.understand is None:  # there is no text to ask about, or a head that predicts no tokens
            return
        shares = self.understand(self.n_questions, trainer.precision_plugin.forward_context)
        for name, share in shares.items():
            pl_module.log(f"val/{name}", share, logger=False, sync_dist=True)
