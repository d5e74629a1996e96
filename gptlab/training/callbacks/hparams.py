"""Hyperparameters and best metrics of a run, for comparing runs in TensorBoard or another logger."""

import lightning as L

from gptlab.training.callbacks.checkpoints import BestCheckpoint
from gptlab.training.callbacks.validation import validation_metrics
from gptlab.training.loggers import show_hyperparams


class HParams(L.Callback):
    """Log the run's hyperparameters with its best validation after a step.

    The metrics are `val_best/<metric>`. Runs are compared here by what training did, so the weights that a run started
    from do not count, even if they are better.

    Args:
        values: hyperparameter -> value, the columns before the metrics.
    """

    def __init__(self, values: dict[str, bool | float | str]) -> None:
        self.values = values

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the row once the best validation is final."""
        best = next((callback for callback in trainer.callbacks if isinstance(callback, BestCheckpoint)), None)  # type: ignore[attr-defined]
        step, metrics = best.best_trained if best else (trainer.global_step, validation_metrics(trainer))
        best_metrics = {"val_best/" + name.removeprefix("val/"): value for name, value in metrics.items()}
        show_hyperparams(trainer, self.values, best_metrics, step)
