"""Callbacks that write the best and the last checkpoint."""

import logging
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

import lightning as L

from gptlab.bounds import AtLeast
from gptlab.data.lightning_internals import batches_processed
from gptlab.slots import slot
from gptlab.training.callbacks.validation import validation_metrics
from gptlab.training.context import DivergedError, RunContext, start_counts
from gptlab.training.lightning_internals import batches_per_validation, processed_batches, write_loop_counters
from gptlab.training.schedules import TorchSchedule, n_shared_steps

log = logging.getLogger(__name__)


class Validation(NamedTuple):
    """The metrics of one validation."""

    step: int | None = None  # None before the first validation
    metrics: Mapping[str, float] = MappingProxyType({})


@slot("callbacks.*")
class BestCheckpoint(L.Callback):
    """Write `checkpoints/best.ckpt`: the weights of the best validation so far.

    The file holds no optimizer state, so a run cannot resume from it. The validation before the first step counts, but
    its weights are not written, because they are where they came from. If a part of them is new, they are nowhere, and
    the validation does not count.
    """

    def __init__(self, context: RunContext) -> None:
        self.path = context.folder / "checkpoints" / "best.ckpt"
        self.name, mode = context.monitor
        self.sign = 1 if mode == "min" else -1
        self.start_counts = start_counts(context)
        self.best = Validation()
        self.best_trained = Validation()  # the best after at least one step

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the file if the monitored metric has improved."""
        found = Validation(trainer.global_step, validation_metrics(trainer))
        if found.step == 0 and not self.start_counts:
            return
        if found.step and self._improves(found, self.best_trained):
            self.best_trained = found
        if self._improves(found, self.best):
            self.best = found
            if found.step:
                trainer.save_checkpoint(self.path, weights_only=True)

    def is_better(self, metrics: Mapping[str, float]) -> bool:
        """Return whether the metrics are better than the best before them."""
        return self._improves(Validation(metrics=metrics), self.best)

    def _improves(self, found: Validation, best: Validation) -> bool:
        """Return whether the monitored metric is better."""
        return self.sign * found.metrics[self.name] < self.sign * best.metrics.get(self.name, math.inf * self.sign)

    def state_dict(self) -> dict[str, Any]:
        """Return the best validations."""
        return {name: [best.step, dict(best.metrics)] for name, best in self._found().items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best validations."""
        for name in self._found():
            step, metrics = state_dict[name]
            values = {str(metric): float(value) for metric, value in metrics.items()}
            setattr(self, name, Validation(None if step is None else int(step), values))

    def _found(self) -> dict[str, Validation]:
        return {"best": self.best, "best_trained": self.best_trained}


@slot("callbacks.*")
class LastCheckpoint(L.Callback):
    """Write `checkpoints/last.ckpt`: everything that resuming needs.

    It is written every `every_n_train_steps` optimizer steps, at a signal and at the end. It holds the state after a
    whole step and before the validation that may follow; the resumed run then validates first.

    Args:
        stable: also write `checkpoints/stable.ckpt`, of the last step that a longer run would take too: the one before
            the schedule's decay. A job of a sweep starts from it instead of repeating these steps, see
            `gptlab.sweeps.branches`.
    """

    def __init__(self, context: RunContext, *, every_n_train_steps: Annotated[int, AtLeast(1)], stable: bool) -> None:
        self.path = context.folder / "checkpoints" / "last.ckpt"
        self.every_n_train_steps, self.stable = every_n_train_steps, stable
        self.stable_step = 0  # after which stable.ckpt is written; 0 for none
        self.saved_step = self.validated_step = context.start_step

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Find the last step before the schedule's decay."""
        schedule = pl_module.schedule
        if self.stable and not isinstance(schedule, TorchSchedule):
            self.stable_step = n_shared_steps(schedule, trainer.max_steps)
        if self.stable and not self.stable_step:
            log.info("stable.ckpt is not written: no step of this schedule is independent of the run's length")

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        """Save every `every_n_train_steps`, once per step.

        The hook also runs between the micro-batches of a step. There `global_step` is still the last one, which has
        been saved.
        """
        if trainer.global_step == self.stable_step > 0 and not pl_module.accumulated:
            trainer.save_checkpoint(self.path.with_name("stable.ckpt"))
        if trainer.global_step % self.every_n_train_steps == 0 and trainer.global_step < trainer.max_steps:
            self.save(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record that the step has been validated."""
        self.validated_step = trainer.global_step

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the final state."""
        self.save(trainer)

    def save(self, trainer: L.Trainer) -> None:
        """Write the file, once per step.

        Raises:
            DivergedError: the weights are not finite; they never replace a good checkpoint.
        """
        if trainer.global_step == self.saved_step:
            return
        if not all(bool(parameter.isfinite().all()) for parameter in trainer.lightning_module.parameters()):
            raise DivergedError("a weight", "not finite", trainer.global_step)
        trainer.save_checkpoint(self.path)
        self.saved_step = trainer.global_step

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Write loop counters that resume correctly from any hook."""
        n_batches = batches_processed(trainer)
        due = n_batches % batches_per_validation(trainer) == 0 and self.validated_step != trainer.global_step
        write_loop_counters(checkpoint, n_batches, owes_validation=due)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Decide anew whether a validation is due, by the interval of the resumed run."""
        n_batches, step = processed_batches(checkpoint), int(checkpoint["global_step"])
        validated_step = checkpoint["callbacks"].get(self.state_key, {}).get("validated_step", step)
        due = n_batches % int(trainer.val_check_interval) == 0 and validated_step != step
        write_loop_counters(checkpoint, n_batches, owes_validation=due)

    def state_dict(self) -> dict[str, Any]:
        """Return the last step that was validated."""
        return {"validated_step": self.validated_step}
