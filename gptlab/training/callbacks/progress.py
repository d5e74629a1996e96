"""How training goes, in the terminal and in train.log."""

import logging
import math
from time import perf_counter
from typing import Any

import lightning as L
import rich
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gptlab.slots import slot
from gptlab.training.callbacks.throughput import Throughput
from gptlab.training.callbacks.validation import validation_metrics
from gptlab.training.context import RunContext

log = logging.getLogger(__name__)


@slot("callbacks.*")
class ProgressLines(L.Callback):
    """A line at every validation, and where there is a terminal a live bar below them.

    Args:
        every_n_seconds: without a terminal, how long the log may be silent.
    """

    def __init__(self, context: RunContext, *, every_n_seconds: float) -> None:
        self.total_steps, self.every_n_seconds = context.total_steps, every_n_seconds
        self.bar: Progress | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Opens the bar."""
        self.meter = next(callback for callback in trainer.callbacks if isinstance(callback, Throughput))  # type: ignore[attr-defined]
        self.spoke = perf_counter()
        if not trainer.is_global_zero or not rich.get_console().is_terminal:
            return
        columns = (TextColumn("step"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.fields[says]}"))
        self.bar = Progress(*columns, TimeRemainingColumn(), transient=True)
        self.task = self.bar.add_task("", total=self.total_steps, says="starting", completed=trainer.global_step)
        self.bar.start()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        """Moves the bar, or says a line after a long silence."""
        if math.isnan(self.meter.loss):
            return  # in the midst of the first step
        if self.bar is not None:
            self.bar.update(self.task, completed=trainer.global_step, says=" · ".join(self._training(pl_module)))
        elif trainer.is_global_zero and perf_counter() - self.spoke > self.every_n_seconds:
            self._say(trainer, *self._training(pl_module))

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """The line that stays."""
        if trainer.is_global_zero:
            loss, *_, rate = self._training(pl_module)  # validation has a perplexity of its own
            head = [f"val/{name}" for name in pl_module.metrics]  # what others measured would not fit into the line
            values = validation_metrics(trainer)
            found = (f"{name} {values[name]:.4g}" for name in head)
            self._say(trainer, loss, *found, rate)

    def on_train_end(self, *_: Any) -> None:
        """Closes the bar."""
        if self.bar is not None:
            self.bar.stop()

    def on_exception(self, *_: Any) -> None:
        """Closes the bar, so that the terminal is whole again."""
        self.on_train_end()

    def _say(self, trainer: L.Trainer, *words: str) -> None:
        self.spoke = perf_counter()
        log.info(" · ".join([f"step {trainer.global_step}/{self.total_steps}", *words]))

    def _training(self, pl_module: Any) -> list[str]:
        """As last logged."""
        loss, rate = self.meter.loss, self.meter.rate
        perplexity = [f"perplexity {math.exp(min(loss, 700.0)):.4g}"] if "perplexity" in pl_module.metrics else []
        return [f"train/loss {loss:.4g}", *perplexity, f"{rate:,.0f} tokens/s"]
