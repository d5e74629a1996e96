"""Progress of training, in the terminal and in train.log."""

import logging
import math
from time import perf_counter
from typing import Annotated, Any

import lightning as L
import rich
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gptlab.bounds import AtLeast
from gptlab.slots import slot
from gptlab.training.callbacks.forgetting import GENERAL_LOSS
from gptlab.training.callbacks.throughput import Throughput
from gptlab.training.callbacks.validation import validation_metrics
from gptlab.training.context import RunContext
from gptlab.training.estimate import LONG_SECONDS, show_seconds

log = logging.getLogger(__name__)


@slot("callbacks.*")
class ProgressLines(L.Callback):
    """Show progress as log lines and a live bar.

    A line is logged at every validation; a terminal also gets the bar.

    Args:
        every_n_seconds: without a terminal, the longest time between two lines.
    """

    def __init__(self, context: RunContext, *, every_n_seconds: Annotated[float, AtLeast(0)]) -> None:
        self.total_steps, self.start_step = context.total_steps, context.start_step
        self.every_n_seconds = every_n_seconds
        self.bar: Progress | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Open the bar."""
        self.throughput = next(callback for callback in trainer.callbacks if isinstance(callback, Throughput))  # type: ignore[attr-defined]
        self.last_line_at = perf_counter()
        if not trainer.is_global_zero or not rich.get_console().is_terminal:
            return
        columns = (TextColumn("step"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.fields[status]}"))
        self.bar = Progress(*columns, TimeRemainingColumn(), transient=True)
        self.task = self.bar.add_task("", total=self.total_steps, status="starting", completed=trainer.global_step)
        self.bar.start()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        """Advance the bar, or log an overdue line."""
        if math.isnan(self.throughput.loss):
            return  # the first step is not complete
        if self.bar is not None:
            self.bar.update(self.task, completed=trainer.global_step, status=" · ".join(self._status(pl_module)))
        elif trainer.is_global_zero and perf_counter() - self.last_line_at > self.every_n_seconds:
            self._log(trainer, *self._status(pl_module))

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Log the validation metrics."""
        if trainer.is_global_zero:
            values = validation_metrics(trainer)
            # the head's own and the general text's loss; the probes would not fit
            names = [*(f"val/{name}" for name in pl_module.metrics), *({GENERAL_LOSS} & values.keys())]
            words = [f"{name} {values[name]:.4g}" for name in names]
            if not math.isnan(self.throughput.loss):  # it is before the first step
                loss, *_, rate = self._status(pl_module)  # the line shows validation's perplexity, not training's
                words = [loss, *words, rate]
            self._log(trainer, *words)

    def on_train_end(self, *_: Any) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.stop()

    def on_exception(self, *_: Any) -> None:
        """Close the bar, so that the terminal is restored."""
        self.on_train_end()

    def _log(self, trainer: L.Trainer, *words: str) -> None:
        self.last_line_at = perf_counter()
        log.info(" · ".join([f"step {trainer.global_step}/{self.total_steps}", *words, *self._time_left(trainer)]))

    def _time_left(self, trainer: L.Trainer) -> list[str]:
        """Return the time that the other steps will take, if it is long."""
        n_steps = max(1, trainer.global_step - self.start_step)  # a resumed run may validate before it trains
        seconds = self.throughput.seconds / n_steps * (self.total_steps - trainer.global_step)
        return [f"{show_seconds(seconds)} left"] if seconds > LONG_SECONDS else []

    def _status(self, pl_module: Any) -> list[str]:
        """Return the last logged training loss, perplexity and rate."""
        loss, rate = self.throughput.loss, self.throughput.rate
        perplexity = [f"perplexity {math.exp(min(loss, 700.0)):.4g}"] if "perplexity" in pl_module.metrics else []
        return [f"train/loss {loss:.4g}", *perplexity, f"{rate:,.0f} tokens/s"]
