"""Stops a run early, by the metric that its head monitors."""

from typing import Annotated, Any

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping as LightningEarlyStopping

from gptlab.bounds import AtLeast
from gptlab.slots import slot
from gptlab.training.callbacks.validation import validation_metrics
from gptlab.training.context import IsHopeless, RunContext, start_counts
from gptlab.training.lightning_internals import true_on_any_rank


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


class StopHopeless(L.Callback):
    """End a run that whoever compares runs calls hopeless, as a search does with its trials.

    The validations after each step are passed on, the last one too, after which there is nothing left to end.
    """

    def __init__(self, context: RunContext, judge: IsHopeless) -> None:
        self.name, self.judge = context.monitor.name, judge
        self.is_hopeless = False

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Ask for the judgement of this validation, on all ranks that of the first."""
        step, n_steps = trainer.global_step, trainer.max_steps
        if step == 0:
            return
        found = trainer.is_global_zero and self.judge(step, validation_metrics(trainer)[self.name], n_steps)
        if true_on_any_rank(trainer, found) and step < n_steps:
            self.is_hopeless = trainer.should_stop = True
