"""Ctrl-C and SIGTERM: the step is finished and saved, and the program ends as the signal says."""

import logging
import signal
import threading
from types import FrameType
from typing import Any

import lightning as L

from gptlab.training.callbacks.checkpoints import LastCheckpoint

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopOnSignal(L.Callback):
    """Ends a run with status 130 (Ctrl-C) or 143 (SIGTERM) and nothing lost; a second signal ends it where it stands.

    Has to be the last callback, so that what is saved has all the others' state after the step.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.before: dict[int, Any] = {}

    def on_train_start(self, *_: Any) -> None:
        """Takes the signals over, Lightning's handler for SIGTERM too, which would stop amid a step with status 0."""
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self._receive) for number in SIGNALS}

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        """Saves and stops after a whole step; all devices at the same one."""
        if not pl_module.accumulated and trainer.global_step < trainer.max_steps and self._asked(trainer):
            self._stop(trainer)

    def on_validation_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """A long validation need not be waited for: the resumed run does it from its beginning."""
        if self.signal is not None and trainer.world_size == 1 and trainer.global_step < trainer.max_steps:
            self._stop(trainer)

    def on_train_end(self, *_: Any) -> None:
        """Gives the signals back."""
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}

    def on_exception(self, *_: Any) -> None:
        """Gives the signals back."""
        self.on_train_end()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            self.on_train_end()
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        self.signal = number
        log.info("stopping after this step; the same signal again stops at once")

    def _asked(self, trainer: L.Trainer) -> bool:
        asked = self.signal is not None
        return trainer.strategy.reduce_boolean_decision(asked, all=False) if trainer.world_size > 1 else asked

    def _stop(self, trainer: L.Trainer) -> None:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, LastCheckpoint):
                callback.save(trainer)
        # where Lightning started the other processes, it kills the first at once if one of them ends with an error
        raise SystemExit(128 + (self.signal or signal.SIGTERM) if trainer.is_global_zero else 0)
