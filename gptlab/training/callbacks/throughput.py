"""Throughput of training: tokens, seconds, MFU; and the loss."""

import math
from time import perf_counter
from typing import Any

import lightning as L
import torch
from torch.optim import Optimizer

from gptlab.hardware.memory import memory_in_use
from gptlab.hardware.peak import peak_flops
from gptlab.hardware.precision import effective_precision
from gptlab.training.callbacks.validation import validation_metrics
from gptlab.training.context import DivergedError
from gptlab.training.mfu import flops_per_token


class Throughput(L.Callback):
    """Log the throughput and loss of training.

    The seconds leave out validation, samples and checkpoints, so that the rate is that of training alone.
    """

    def __init__(self, *, log_every_n_steps: int) -> None:
        self.log_every_n_steps = log_every_n_steps
        self.tokens = 0
        self.seconds = 0.0
        self._learning_rate = math.nan  # of the first group of parameters, in the last step
        self._mark = 0.0  # when the clock was last read; 0 if it is stopped
        self._logged = (0, 0.0)  # tokens and seconds at the last log

    def on_train_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Find the device's peak before the clock starts."""
        device = trainer.strategy.root_device
        self._peak = peak_flops(device, effective_precision(trainer.precision)) * trainer.world_size
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def on_train_batch_start(self, *_: Any) -> None:
        """Start the clock, if it is stopped."""
        self._mark = self._mark or perf_counter()

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: Any, optimizer: Optimizer) -> None:
        """Record the step's learning rate.

        At the end of the step the schedule has already set the next one.
        """
        self._learning_rate = float(optimizer.param_groups[0]["lr"])

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count the batch, and log every `log_every_n_steps` steps.

        Only then is a tensor read back from the device, which waits for it.
        """
        now = perf_counter()
        self.tokens += batch["ids"].numel() * trainer.world_size
        self.seconds, self._mark = self.seconds + now - self._mark, now
        stepped = not pl_module.accumulated
        due = trainer.global_step % self.log_every_n_steps == 0 or trainer.global_step == 1
        if stepped and (due or trainer.global_step >= trainer.max_steps):
            self._log(trainer, pl_module, n_tokens=batch["ids"].size(1))

    def _log(self, trainer: L.Trainer, pl_module: Any, *, n_tokens: int) -> None:
        loss = float(pl_module.step_loss)
        if not math.isfinite(loss):
            raise DivergedError("the training loss", loss, trainer.global_step)
        tokens, seconds = self._logged
        rate = (self.tokens - tokens) / max(self.seconds - seconds, 1e-9)
        self._logged = self.tokens, self.seconds
        metrics = {
            "train/loss": loss,
            **({"train/perplexity": math.exp(min(loss, 700.0))} if "perplexity" in pl_module.metrics else {}),
            "train/learning_rate": self._learning_rate,
            "train/gradient_norm": float(pl_module.grad_norm),
            "train/tokens": float(self.tokens),
            "train/tokens_per_second": rate,
            "train/mfu": rate * flops_per_token(pl_module.model, pl_module.head, n_tokens=n_tokens) / self._peak,
            "train/memory_gb": memory_in_use(trainer.strategy.root_device) / 1e9,
        }
        self._write(trainer, metrics)

    def _write(self, trainer: L.Trainer, metrics: dict[str, float]) -> None:
        for logger in trainer.loggers:
            logger.log_metrics(metrics, trainer.global_step)

    def on_validation_start(self, *_: Any) -> None:
        """Stop the clock."""
        self._mark = 0.0

    def on_validation_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Log the validation metrics under their step.

        Lightning would count validations from 0.
        """
        self._write(trainer, validation_metrics(trainer))

    def on_save_checkpoint(self, *_: Any) -> None:
        """Stop the clock."""
        self._mark = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return the counts."""
        return {"tokens": self.tokens, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counts; the next rate is measured from here."""
        self.tokens, self.seconds = self._logged = int(state_dict["tokens"]), float(state_dict["seconds"])
