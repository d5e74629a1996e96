"""Callbacks before each batch: seeding, and overfitting one batch."""

from typing import Any

import lightning as L
import numpy as np
import torch

from gptlab.data.lightning_internals import batches_processed
from gptlab.slots import slot


class Reseed(L.Callback):
    """Seed dropout from (seed, batch, rank) before each batch.

    A resumed run therefore draws the same numbers as an uninterrupted one.
    """

    def __init__(self, *, seed: int) -> None:
        self.seed = seed
        # without an accelerator, torch.manual_seed takes a millisecond to look for one
        self.seed_devices = (
            torch.manual_seed if torch.accelerator.is_available() else torch.default_generator.manual_seed
        )

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Seed the generators of the batch."""
        seeds = np.random.SeedSequence([self.seed, batches_processed(trainer), trainer.global_rank])
        self.seed_devices(int(seeds.generate_state(1, np.uint64)[0]))


@slot("callbacks.*")
class OverfitBatch(L.Callback):
    """Replace every batch by the first one, to debug a model."""

    def __init__(self) -> None:
        self.first: dict[str, Any] | None = None

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: dict[str, Any], batch_idx: int
    ) -> None:
        """Overwrite the batch in place before the step."""
        if self.first is None:
            self.first = {key: value.clone() for key, value in batch.items()}
        batch.update(self.first)
