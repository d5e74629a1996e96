"""The last step is validated too."""

from typing import Any

import lightning as L


class FinalValidation(L.Callback):
    """Asks for the end one batch early: Lightning then validates before it stops, whatever the interval."""

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """After the last step."""
        if trainer.global_step >= trainer.max_steps:
            trainer.should_stop = True
