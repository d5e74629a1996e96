"""The first and the last validation of a run, and the metrics of the latest."""

import math
from typing import Any

import lightning as L

from gptlab.errors import UserError
from gptlab.slots import slot
from gptlab.storage.excerpts import excerpt_path
from gptlab.training.context import DivergedError, RunContext
from gptlab.training.lightning_internals import validate


def validation_metrics(trainer: L.Trainer) -> dict[str, float]:
    """Return `val/<metric>` -> value, the head's own metrics first.

    The values are over the whole validation set.
    """
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
    own = [f"val/{name}" for name in trainer.lightning_module.metrics]  # type: ignore[union-attr]
    return {name: metrics[name] for name in (*own, *metrics) if name in metrics}


@slot("callbacks.*")
class StartValidation(L.Callback):
    """Validate pretrained weights before the first step.

    A run from random weights is not validated then, and a resumed run has been.
    """

    def __init__(self, context: RunContext) -> None:
        self.start = context.start
        self.weights = context.start and context.start.weights  # None without a validation at the start
        self.metrics: dict[str, float] = {}

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Validate, once every callback has begun."""
        if self.start is not None and trainer.global_step == 0:
            validate(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the first metrics."""
        if trainer.global_step == 0:
            self.metrics = validation_metrics(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Return the metrics, and where the weights came from."""
        return {"metrics": self.metrics, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the metrics, and where the weights came from."""
        self.metrics = {str(name): float(value) for name, value in state_dict["metrics"].items()}
        self.weights = None if state_dict["weights"] is None else excerpt_path(str(state_dict["weights"]))


class FiniteValidation(L.Callback):
    """End a run whose weights no longer give numbers.

    This comes before the callbacks that generate or score a text at the end of a validation.
    """

    def __init__(self, context: RunContext) -> None:
        self.monitor, self.start = context.monitor.name, context.start

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Check the metric that the head monitors.

        Raises:
            DivergedError: it is not finite.
            UserError: the weights that the run starts from gave no numbers.
        """
        name = self.monitor.removeprefix("val/")
        value = float(pl_module.metrics[name].compute()) if name in pl_module.metrics else 0.0
        if math.isfinite(value):
            return
        if trainer.global_step == 0 and self.start is not None:
            raise UserError(
                f"{self.start.weights}: {self.monitor} is {value} before the first step: take other weights, or a "
                "trainer.precision with a larger range"
            )
        raise DivergedError(self.monitor, value, trainer.global_step)


class FinalValidation(L.Callback):
    """Make Lightning validate after the last step, whatever the interval.

    Lightning validates before it stops if `should_stop` is set.
    """

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Request the stop after the last step."""
        if trainer.global_step >= trainer.max_steps:
            trainer.should_stop = True
