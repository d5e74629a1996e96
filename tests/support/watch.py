"""A callback that writes down all that a run does, and stops it where it is told to."""

import json
import os
import signal
from typing import Any

import lightning as L

from gptlab.training.context import RunContext


class Watch(L.Callback):
    """`watch.jsonl`: a line a batch, with the windows it held and the loss of its step, and one a validation.

    Args:
        stop_at: before which batch of the run to stop; None lets it run.
        how: `error` raises, `validation` sends SIGTERM amid the validation after that batch, others name a signal.
    """

    def __init__(self, context: RunContext, *, stop_at: int | None, how: str) -> None:
        self.path, self.stop_at, self.how = context.folder / "watch.jsonl", stop_at, how
        self.batch: int | None = None

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        self.batch = trainer.fit_loop.epoch_loop.batch_progress.total.processed
        if self.batch == self.stop_at and self.how != "validation":
            if self.how == "error":
                raise RuntimeError("the power failed")
            os.kill(os.getpid(), getattr(signal, self.how))

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        stepped = not pl_module.accumulated
        loss = float(pl_module.step_loss) if stepped else None
        self._write({"batch": self.batch, "ids": batch["ids"].tolist(), "loss": loss, "step": trainer.global_step})

    def on_validation_batch_start(self, *_: Any) -> None:
        if self.batch is not None and self.batch == self.stop_at and self.how == "validation":
            os.kill(os.getpid(), signal.SIGTERM)

    def on_validation_end(self, trainer: L.Trainer, *_: Any) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self._write({"step": trainer.global_step, **metrics})

    def _write(self, what: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(what) + "\n")
