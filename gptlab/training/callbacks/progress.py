"""Progress of training, in the terminal and in train.log."""

import logging
import math
from time import perf_counter
from typing import Annotated, Any

import lightning as L
import rich

from gptlab.bounds import AtLeast, Length
from gptlab.console import StatusLine, is_animated, join_parts, show_clock
from gptlab.errors import UserError
from gptlab.slots import slot
from gptlab.training.callbacks.checkpoints import BestCheckpoint
from gptlab.training.callbacks.forgetting import GENERAL_LOSS
from gptlab.training.callbacks.throughput import Throughput
from gptlab.training.callbacks.validation import validation_metrics
from gptlab.training.context import RunContext
from gptlab.training.lightning_internals import batches_per_validation
from gptlab.training.planning.estimate import Estimate

log = logging.getLogger(__name__)

BAR_SECONDS = 0.5  # between two steps shown in the bar: reading a loss waits for the device
RATE_SECONDS = 5.0  # the rate is that of the last 5 to 10 s of training


class Forecast:
    """The time that a run has still to go.

    A step takes as long as those since the first, which compiles and warms up. All time outside of steps (validations,
    samples, checkpoints) is divided among the validations. What has not happened yet takes its estimated time.
    """

    def __init__(self, estimate: Estimate, *, start_step: int, total_steps: int, validate_every: int) -> None:
        self.estimate, self.start_step, self.total_steps = estimate, start_step, total_steps
        self.validate_every = validate_every
        self.first: tuple[int, float] | None = None  # the first step, and the seconds of training up to it

    def seconds_left(self, step: int, *, trained: float, elapsed: float, n_validations: int) -> float:
        """Return the seconds to the end of the run.

        Args:
            trained: seconds in training steps so far.
            elapsed: seconds so far.
            n_validations: validations that have begun.
        """
        if self.first is None and step > self.start_step:
            self.first = step, trained
        step_seconds = self.estimate.step_tokens / self.estimate.tokens_per_second
        if self.first is not None and step > self.first[0]:
            step_seconds = (trained - self.first[1]) / (step - self.first[0])
        due = math.ceil(self.total_steps / self.validate_every) - step // self.validate_every
        other = (elapsed - trained) / n_validations if n_validations else self.estimate.validation_seconds
        return (self.total_steps - step) * step_seconds + due * other + self.estimate.final_seconds


@slot("callbacks.*")
class ProgressLines(L.Callback):
    """Show progress as log lines and a live bar.

    A line is logged at every validation; a terminal also gets the bar. Losses are those of the step that is shown.

    Args:
        metrics: what a line shows of a validation: this many of the head's metrics, or those of these names. The metric
            that chooses the best weights is always shown.
        every_n_seconds: without a bar, the longest time between two lines.
    """

    def __init__(
        self,
        context: RunContext,
        *,
        metrics: Annotated[int, AtLeast(1)] | Annotated[list[str], Length(1, None)],
        every_n_seconds: Annotated[float, AtLeast(0)],
    ) -> None:
        self.context, self.metrics, self.every_n_seconds = context, metrics, every_n_seconds
        self.bar: StatusLine | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Start the clock, and open the bar.

        Raises:
            UserError: a metric to show is none of the head's.
        """
        self.shown_metrics = choose_metrics(self.metrics, list(pl_module.metrics), self.context.monitor.name)
        self.throughput = next(callback for callback in trainer.callbacks if isinstance(callback, Throughput))  # type: ignore[attr-defined]
        self.began = self.line_at = perf_counter()
        self.trained_before = self.throughput.seconds  # by the run that is resumed
        self.rates = [(self.throughput.tokens, self.throughput.seconds)] * 2
        self.shown_step, self.shown_loss, self.shown_at = trainer.global_step, math.nan, 0.0
        self.seen_step, self.n_validations, self.validating = trainer.global_step, 0, ""
        self.forecast = Forecast(
            self.context.estimate,
            start_step=self.context.start_step,
            total_steps=self.context.total_steps,
            validate_every=max(1, int(batches_per_validation(trainer) // trainer.accumulate_grad_batches)),
        )
        self._look_ahead(trainer.global_step)
        if trainer.is_global_zero and is_animated(rich.get_console()):
            self.bar = StatusLine(self.read_bar, console=rich.get_console())
            self.bar.live.start()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        """Advance the bar, or log an overdue line."""
        step, now = trainer.global_step, perf_counter()
        if step == self.seen_step or not trainer.is_global_zero:
            return  # between the micro-batches of a step
        self.seen_step = step
        self._look_ahead(step)
        if self.bar is not None:
            if now - self.shown_at >= BAR_SECONDS:
                self._show_step(trainer, pl_module)
        elif now - self.line_at > self.every_n_seconds:
            self._log(step, _loss(pl_module), self._rate())

    def on_validation_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Count the validation, and show it in the bar."""
        self.n_validations += 1
        self.validating = "validating"
        self._show_step(trainer, pl_module)

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Show how far the validation is."""
        self.validating = f"validating {batch_idx + 1:,}/{sum(trainer.num_val_batches):,}"

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Log the validation metrics."""
        self.validating = ""
        if not trainer.is_global_zero:
            return
        self._look_ahead(trainer.global_step)
        values = validation_metrics(trainer)
        words = {name: f"{name.removeprefix('val/')} {values[name]:#.4g}" for name in self.shown_metrics}
        words[self.shown_metrics[0]] = f"val/{words[self.shown_metrics[0]]}"
        if GENERAL_LOSS in values:  # the probes would not fit
            words[GENERAL_LOSS] = f"{GENERAL_LOSS} {values[GENERAL_LOSS]:#.4g}"
        stepped = [_loss(pl_module)] if trainer.global_step > self.context.start_step else []
        monitor = self.context.monitor.name
        self._log(trainer.global_step, *stepped, *words.values(), marks={words[monitor]: _compare(trainer, values)})

    def on_train_end(self, *_: Any) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.live.stop()

    def on_exception(self, *_: Any) -> None:
        """Close the bar, so that the terminal is restored."""
        self.on_train_end()

    def _show_step(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Show this step and its loss in the bar."""
        if self.bar is not None:
            self.shown_step, self.shown_loss = trainer.global_step, float(pl_module.step_loss)
            self.shown_at = perf_counter()

    def _log(self, step: int, *words: str, marks: dict[str, str] | None = None) -> None:
        self.line_at = perf_counter()
        parts = [f"step {step:,}/{self.context.total_steps:,}", *words, *self._times().values()]
        log.info(join_parts(parts), extra={"parts": parts, "marks": marks})

    def _look_ahead(self, step: int) -> None:
        """Forecast the end of the run."""
        now, trained = perf_counter(), self.throughput.seconds - self.trained_before
        seconds = self.forecast.seconds_left(
            step, trained=trained, elapsed=now - self.began, n_validations=self.n_validations
        )
        self.end = None if step >= self.context.total_steps else now + seconds

    def _times(self) -> dict[str, str]:
        """Return the elapsed and the remaining time."""
        now = perf_counter()
        left = {} if self.end is None else {"left": f"{show_clock(max(0.0, self.end - now))} left"}
        return {"elapsed": f"{show_clock(now - self.began)} elapsed", **left}

    def _rate(self) -> str:
        """Return the rate of the last seconds of training."""
        now = self.throughput.tokens, self.throughput.seconds
        if now[1] - self.rates[1][1] > RATE_SECONDS:
            self.rates = [self.rates[1], now]
        tokens, seconds = self.rates[0]
        return f"{(now[0] - tokens) / max(now[1] - seconds, 1e-9):,.0f} tokens/s"

    def read_bar(self) -> tuple[float, dict[str, str]]:
        """Return what the bar shows now."""
        total, started = self.context.total_steps, not math.isnan(self.shown_loss)
        words = {"title": f"step {self.shown_step:,}/{total:,}"}
        words["count"] = self.validating or (f"loss {self.shown_loss:#.4g}" if started else "starting")
        rate = {"rate": self._rate()} if started else {}
        return self.shown_step / total, {**words, **rate, **self._times()}


def _loss(pl_module: Any) -> str:
    """Return the loss of the last step."""
    return f"train/loss {float(pl_module.step_loss):#.4g}"


def choose_metrics(wanted: int | list[str], metrics: list[str], monitor: str) -> list[str]:
    """Return the names of the validation metrics on a line."""
    names = metrics[:wanted] if isinstance(wanted, int) else wanted
    if unknown := [name for name in names if name not in metrics]:
        raise UserError(
            f"callbacks.progress.metrics names {', '.join(unknown)}, but the head's metrics are {', '.join(metrics)}: "
            "name some of them, or give a number"
        )
    return list(dict.fromkeys([*(f"val/{name}" for name in names), monitor]))


def _compare(trainer: L.Trainer, values: dict[str, float]) -> str:
    """Return the colour of a validation: better than all before it, or not."""
    best = next((callback for callback in trainer.callbacks if isinstance(callback, BestCheckpoint)), None)  # type: ignore[attr-defined]
    if best is None or not best.best.metrics:
        return ""
    return "green" if best.is_better(values) else "yellow"
