"""A callback that records all batches of a run and can stop it."""

import json
import os
import signal
from typing import Any

import lightning as L

from gptlab.data.lightning_internals import batches_processed
from gptlab.training.context import RunContext


class Watch(L.Callback):
    """Write `watch.jsonl`: a line per batch and per validation.

    A batch's line has its ids and the loss of its step.

    Args:
        stop_at: the batch before which the run stops; None lets it run.
        how: the way to stop. `error` raises, `validation` sends SIGTERM during the validation after that batch, `start`
            during the one before the first batch, others name a signal.
    """

    def __init__(self, context: RunContext, *, stop_at: int | None, how: str) -> None:
        self.path, self.stop_at, self.how = context.folder / "watch.jsonl", stop_at, how
        self.batch: int | None = None

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        self.batch = batches_processed(trainer)
        if self.batch == self.stop_at and self.how != "validation":
            if self.how == "error":
                raise RuntimeError("the power failed")
            os.kill(os.getpid(), getattr(signal, self.how))

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        stepped = not pl_module.accumulated
        loss = float(pl_module.step_loss) if stepped else None
        self._write({"batch": self.batch, "ids": batch["ids"].tolist(), "loss": loss, "step": trainer.global_step})

    def on_validation_batch_start(self, *_: Any) -> None:
        after = self.batch is not None and self.batch == self.stop_at and self.how == "validation"
        if after or (self.batch is None and self.how == "start"):
            os.kill(os.getpid(), signal.SIGTERM)

    def on_validation_end(self, trainer: L.Trainer, *_: Any) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self._write({"step": trainer.global_step, **metrics})

    def _write(self, row: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
