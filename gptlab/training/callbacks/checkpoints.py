"""When checkpoints are written: the best weights, and the last state to go on from."""

import math
from typing import Any

import lightning as L

from gptlab.training.callbacks.validation import validation_metrics
from gptlab.training.context import RunContext


class BestCheckpoint(L.Callback):
    """`checkpoints/best.ckpt`: the weights with the best validation so far, and only the weights."""

    def __init__(self, context: RunContext) -> None:
        self.path = context.folder / "checkpoints" / "best.ckpt"
        self.name, mode = context.monitor
        self.sign = 1 if mode == "min" else -1
        self.metrics: dict[str, float] = {}
        self.step: int | None = None

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes the file if the monitored metric is better than ever."""
        metrics = validation_metrics(trainer)
        best = self.metrics.get(self.name, math.inf * self.sign)
        if self.sign * metrics[self.name] < self.sign * best:
            self.metrics, self.step = metrics, trainer.global_step
            trainer.save_checkpoint(self.path, weights_only=True)

    def state_dict(self) -> dict[str, Any]:
        """What the best was, for a run that goes on."""
        return {"metrics": self.metrics, "step": self.step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse."""
        self.metrics, self.step = state_dict["metrics"], state_dict["step"]


class LastCheckpoint(L.Callback):
    """`checkpoints/last.ckpt`: everything to go on, every so many optimizer steps, at the end and after an error."""

    def __init__(self, context: RunContext, *, every_n_train_steps: int) -> None:
        self.path = context.folder / "checkpoints" / "last.ckpt"
        self.every_n_train_steps = every_n_train_steps
        self.saved_step = 0

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Only whole steps are saved: between two micro-batches of a window there is nothing to go on from."""
        if trainer.global_step % self.every_n_train_steps == 0:
            self._save(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The final state, best or not."""
        self._save(trainer)

    def _save(self, trainer: L.Trainer) -> None:
        if trainer.global_step != self.saved_step:
            self.saved_step = trainer.global_step
            trainer.save_checkpoint(self.path)
