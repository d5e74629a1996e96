"""Reproducible random numbers for each batch."""

from typing import Any

import lightning as L
import numpy as np
import torch

from gptlab.data.lightning_internals import batches_processed


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
