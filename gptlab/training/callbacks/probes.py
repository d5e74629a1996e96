"""Questions about the held-out text, asked at each validation."""

from typing import Annotated, Any

import lightning as L

from gptlab.bounds import AtLeast
from gptlab.slots import slot
from gptlab.training.context import RunContext
from gptlab.training.lightning_internals import forward_context

PROBE_KINDS = ("last_word", "word_order", "passage")  # of questions


@slot("callbacks.*")
class Probes(L.Callback):
    """Ask the questions of `gptlab evaluate` at each validation.

    `val/last_word`, `val/word_order` and `val/passage` are the shares answered correctly, see
    gptlab/evaluation/probes.py.

    Args:
        n_questions: number of questions of each kind.
    """

    def __init__(self, context: RunContext, *, n_questions: Annotated[int, AtLeast(1)]) -> None:
        self.run_probes, self.n_questions = context.run_probes, n_questions

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Publish the shares beside the head's own metrics."""
        if self.run_probes is None:  # no held-out text, or a head that predicts no tokens
            return
        shares = self.run_probes(self.n_questions, forward_context(trainer))
        for name, share in shares.items():
            pl_module.log(f"val/{name}", share, logger=False, sync_dist=True)
