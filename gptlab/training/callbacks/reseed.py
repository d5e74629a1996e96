"""Random numbers that do not depend on what was drawn before."""

from typing import Any

import lightning as L
import numpy as np
import torch


class Reseed(L.Callback):
    """Dropout draws from (seed, batch, device): a run that goes on in the middle draws what it would have drawn."""

    def __init__(self, *, seed: int) -> None:
        self.seed = seed
        # where there is only the CPU, torch.manual_seed takes a millisecond to find that out
        self.seed_devices = (
            torch.manual_seed if torch.accelerator.is_available() else torch.default_generator.manual_seed
        )

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Before each batch."""
        batch = trainer.fit_loop.epoch_loop.batch_progress.total.processed  # type: ignore[attr-defined]
        seeds = np.random.SeedSequence([self.seed, batch, trainer.global_rank])
        self.seed_devices(int(seeds.generate_state(1, np.uint64)[0]))
