"""Hyperparameters and best metrics of a run, for comparing runs in TensorBoard or another logger."""

from collections.abc import Mapping

import lightning as L

from gptlab.training.callbacks.checkpoints import BestCheckpoint, Validation
from gptlab.training.callbacks.validation import validation_metrics
from gptlab.training.context import RunContext
from gptlab.training.loggers import begin_hparams, end_hparams, show_hparams_metrics, show_hyperparams

Values = Mapping[str, bool | float | str]


class HParams(L.Callback):
    """Keep the run's row among others: its hyperparameters, and its best validation after a step so far.

    The metrics are `val_best/<metric>`, the monitored one first. The row appears with the first validation, so that a
    sweep can be watched, and a run that is killed or pruned has one too. The weights that a run started from do not
    count, even if they are better: runs are compared here by what training did.

    Args:
        values: hyperparameter -> value, the columns before the metrics.
    """

    def __init__(self, context: RunContext, values: Values) -> None:
        self.values, self.monitor = values, context.monitor.name
        self.shown = Validation()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take what a resumed run has already shown."""
        self.shown = _best(trainer) if trainer.global_step else Validation()
        self.began = False

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the validation, if it is the best so far."""
        best = _best(trainer)
        if not best.step or best.step == self.shown.step:
            return
        self.shown, metrics = best, self._metrics(best)
        if not self.began:
            begin_hparams(trainer, self.values, list(metrics))
            self.began = True
        show_hparams_metrics(trainer, metrics, best.step)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Mark the row as that of a complete run; loggers without rows that grow get theirs."""
        end_hparams(trainer)
        show_hyperparams(trainer, self.values, self._metrics(_best(trainer)))

    def _metrics(self, found: Validation) -> dict[str, float]:
        """Return the metrics by the names that they have in a row."""
        names = sorted(found.metrics, key=lambda name: name != self.monitor)
        return {"val_best/" + name.removeprefix("val/"): found.metrics[name] for name in names}


def _best(trainer: L.Trainer) -> Validation:
    """Return the best validation after a step, the last one if no callback tracks the best."""
    best = next((callback for callback in trainer.callbacks if isinstance(callback, BestCheckpoint)), None)  # type: ignore[attr-defined]
    return best.best_trained if best else Validation(trainer.global_step, validation_metrics(trainer))
