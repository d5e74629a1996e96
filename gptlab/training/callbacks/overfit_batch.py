"""Overfitting a single batch, to debug a model."""

from typing import Any

import lightning as L

from gptlab.slots import slot


@slot("callbacks.*")
class OverfitBatch(L.Callback):
    """Replace every batch by the first one."""

    def __init__(self) -> None:
        self.first: dict[str, Any] | None = None

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: dict[str, Any], batch_idx: int
    ) -> None:
        """Overwrite the batch in place before the step."""
        if self.first is None:
            self.first = {key: value.clone() for key, value in batch.items()}
        batch.update(self.first)
