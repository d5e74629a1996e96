"""Stopping when validation no longer gets better."""

from typing import Any

import torch
from lightning.pytorch.callbacks import EarlyStopping as LightningEarlyStopping

from gptlab.slots import slot
from gptlab.training.context import RunContext


@slot("callbacks.*")
class EarlyStopping(LightningEarlyStopping):
    """Lightning's, on the head's own metric.

    Args:
        patience: validations without an improvement of at least `min_delta` that end the run.
    """

    def __init__(self, context: RunContext, *, patience: int, min_delta: float) -> None:
        name, mode = context.monitor
        super().__init__(name, min_delta=min_delta, patience=patience, mode=mode, check_finite=True)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What was seen so far; the patience is what the run is given now."""
        counts = {name: int(state_dict[name]) for name in ("wait_count", "stopped_epoch")}
        best = torch.as_tensor(state_dict["best_score"])
        super().load_state_dict({**counts, "best_score": best, "patience": self.patience})
