"""A clean stop: at Ctrl-C and SIGTERM, and when the time is up."""

import logging
import re
import signal
import threading
from collections.abc import Mapping
from datetime import timedelta
from time import monotonic
from types import FrameType
from typing import Any

import lightning as L

from gptlab.training.callbacks.checkpoints import LastCheckpoint
from gptlab.training.context import DivergedError
from gptlab.training.lightning_internals import true_on_any_rank

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopOnSignal(L.Callback):
    """Finish the step, save and exit at a signal.

    The status is 130 after Ctrl-C and 143 after SIGTERM. A second signal stops at once. This must be the last callback,
    so that the checkpoint holds the others' state after the step.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.handlers: dict[int, Any] = {}  # the previous handlers, to restore

    def on_train_start(self, *_: Any) -> None:
        """Install the signal handlers.

        They replace Lightning's for SIGTERM, which would stop within a step and exit with status 0.
        """
        if threading.current_thread() is threading.main_thread():
            self.handlers = {number: signal.signal(number, self._receive) for number in SIGNALS}

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        """Save and stop all ranks after the same step."""
        if (
            not pl_module.accumulated
            and trainer.global_step < trainer.max_steps
            and true_on_any_rank(trainer, self.signal is not None)
        ):
            self._stop(trainer)

    def on_validation_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Stop during a validation, which the resumed run repeats."""
        if self.signal is not None and trainer.world_size == 1 and trainer.global_step < trainer.max_steps:
            self._stop(trainer)

    def on_train_end(self, *_: Any) -> None:
        """Restore the signal handlers."""
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        self.handlers = {}

    def on_exception(self, *_: Any) -> None:
        """Restore the signal handlers."""
        self.on_train_end()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            self.on_train_end()
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        self.signal = number
        log.info("stopping after this step; the same signal again stops at once")

    def _stop(self, trainer: L.Trainer) -> None:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, LastCheckpoint):
                try:
                    callback.save(trainer)
                except DivergedError as error:  # a signal ends the run all the same
                    log.warning(f"{error}; nothing is saved at this step")
        # if Lightning started the other processes and one exits with an error, it kills rank 0 at once
        raise SystemExit(128 + (self.signal or signal.SIGTERM) if trainer.is_global_zero else 0)


class StopOnTime(L.Callback):
    """End the run when its time is up, after a whole step and a validation.

    The time counts from the start of training in this process: a run that is resumed has all of it again.

    Args:
        max_time: `DD:HH:MM:SS`, or numbers of days, hours, minutes and seconds, as for Lightning's Timer.
    """

    def __init__(self, max_time: str | Mapping[str, float]) -> None:
        units = ("days", "hours", "minutes", "seconds")
        if isinstance(max_time, str):
            max_time = dict(zip(units, map(int, re.split(":", max_time)), strict=True))
        self.seconds = timedelta(**max_time).total_seconds()
        self.is_up = False

    def on_train_start(self, *_: Any) -> None:
        """Start the clock."""
        self.end = monotonic() + self.seconds

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        """Ask Lightning to stop, on all ranks after the same step."""
        if self.is_up or pl_module.accumulated or trainer.global_step >= trainer.max_steps:
            return
        if true_on_any_rank(trainer, monotonic() >= self.end):
            self.is_up = trainer.should_stop = True
            log.info(f"the time is up (trainer.max_time): stopping after step {trainer.global_step}")
