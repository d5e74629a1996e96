"""Early stopping on the head's own metric."""

from typing import Annotated, Any

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping as LightningEarlyStopping

from gptlab.bounds import AtLeast
from gptlab.slots import slot
from gptlab.training.context import RunContext, start_counts


@slot("callbacks.*")
class EarlyStopping(LightningEarlyStopping):
    """Lightning's EarlyStopping, on the metric that the head monitors.

    Patience counts from the validation before the first step, if there is one.

    Args:
        patience: consecutive validations without an improvement of at least `min_delta` after which the run stops.
    """

    def __init__(
        self,
        context: RunContext,
        *,
        patience: Annotated[int, AtLeast(1)],
        min_delta: Annotated[float, AtLeast(0)],
    ) -> None:
        name, mode = context.monitor
        super().__init__(name, min_delta=min_delta, patience=patience, mode=mode, check_finite=True)
        self.start_counts = start_counts(context)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compare the metric with the best one."""
        if trainer.global_step > 0 or self.start_counts:
            super().on_validation_end(trainer, pl_module)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore counts and best score, but not the patience.

        The patience is that of the resumed run's configuration.
        """
        counts = {name: int(state_dict[name]) for name in ("wait_count", "stopped_epoch")}
        best = torch.as_tensor(state_dict["best_score"])
        super().load_state_dict({**counts, "best_score": best, "patience": self.patience})
