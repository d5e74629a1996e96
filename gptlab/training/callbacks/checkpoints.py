"""When checkpoints are written: the best weights, and the last state to go on from."""

import math
from typing import Any

import lightning as L

from gptlab.slots import slot
from gptlab.training.callbacks.validation import validation_metrics
from gptlab.training.context import RunContext


@slot("callbacks.*")
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
        self.metrics = {str(name): float(value) for name, value in state_dict["metrics"].items()}
        self.step = None if state_dict["step"] is None else int(state_dict["step"])


@slot("callbacks.*")
class LastCheckpoint(L.Callback):
    """`checkpoints/last.ckpt`: everything to go on, every so many optimizer steps, at a signal and at the end.

    It holds the state after a whole step and before the validation that may follow it, which a resumed run then does.
    """

    def __init__(self, context: RunContext, *, every_n_train_steps: int) -> None:
        self.path = context.folder / "checkpoints" / "last.ckpt"
        self.every_n_train_steps = every_n_train_steps
        self.saved_step = self.validated_step = context.start_step

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Between two micro-batches of a window there is nothing to go on from; `save` takes a step only once."""
        if trainer.global_step % self.every_n_train_steps == 0 and trainer.global_step < trainer.max_steps:
            self.save(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remembers it."""
        self.validated_step = trainer.global_step

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The final state, best or not."""
        self.save(trainer)

    def save(self, trainer: L.Trainer) -> None:
        """Writes the file, once a step; weights that are no numbers any more never take the place of whole ones."""
        if trainer.global_step == self.saved_step:
            return
        if all(bool(parameter.isfinite().all()) for parameter in trainer.lightning_module.parameters()):
            self.saved_step = trainer.global_step
            trainer.save_checkpoint(self.path)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Sets Lightning's counters to between two batches, wherever in the loop it is asked to save."""
        if "loops" not in checkpoint:  # weights only
            return
        done = trainer.fit_loop.epoch_loop.batch_progress.total.processed  # type: ignore[attr-defined]
        due = done % trainer.val_check_batch == 0 and self.validated_step != trainer.global_step
        checkpoint["loops"]["fit_loop"].update(_counters(done, owes_validation=due))


def _counters(n_batches: int, *, owes_validation: bool) -> dict[str, Any]:
    """Lightning's loops after so many batches of the one epoch that a run is.

    A validation that has begun and done nothing is the state in which Lightning goes back and runs it.
    """
    names = ("ready", "started", "processed", "completed")
    none, begun = dict.fromkeys(names, 0), {"ready": 1, "started": 1, "processed": 0, "completed": 0}
    batches = dict.fromkeys(names, n_batches)
    validation = begun if owes_validation else none
    return {
        "epoch_progress": {"total": begun, "current": begun},
        "epoch_loop.batch_progress": {"total": batches, "current": batches, "is_last_batch": False},
        "epoch_loop.val_loop.batch_progress": {"total": validation, "current": none, "is_last_batch": False},
    }
