"""Validation of the last step."""

from typing import Any

import lightning as L


class FinalValidation(L.Callback):
    """Make Lightning validate after the last step, whatever the interval.

    Lightning validates before it stops if `should_stop` is set.
    """

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Request the stop after the last step."""
        if trainer.global_step >= trainer.max_steps:
            trainer.should_stop = True
