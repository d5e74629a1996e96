"""What a run costs and how it goes: tokens, seconds, loss, and how hard the device works."""

import math
from time import perf_counter
from typing import Any

import lightning as L
import torch
from torch.optim import Optimizer

from gptlab.errors import UserError
from gptlab.hardware.memory import memory_in_use
from gptlab.hardware.peak import peak_flops
from gptlab.hardware.precision import products_in
from gptlab.training.callbacks.validation import validation_metrics
from gptlab.training.mfu import flops_per_token


class Throughput(L.Callback):
    """Counts tokens and the seconds spent in training steps, and logs both with what the step came to.

    Validation, samples and checkpoints are left out of the seconds, so that the rate is that of the training alone.
    """

    def __init__(self, *, log_every_n_steps: int) -> None:
        self.log_every_n_steps = log_every_n_steps
        self.tokens = 0
        self.seconds = 0.0
        self.loss = math.nan  # train/loss as last logged
        self.rate = math.nan  # tokens a second since the log before
        self._learning_rate = math.nan  # of the first group of parameters, in the last step
        self._mark = 0.0  # when the clock was last read
        self._logged = (0, 0.0)  # tokens and seconds at the last log

    def on_train_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Finds the device's peak before the clock starts."""
        device = trainer.strategy.root_device
        self._peak = peak_flops(device, products_in(trainer.precision)) * trainer.world_size
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def on_train_batch_start(self, *_: Any) -> None:
        """Starts the clock after anything but a step has run."""
        self._mark = self._mark or perf_counter()

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: Any, optimizer: Optimizer) -> None:
        """Notes the rate that this step takes: by the step's end the schedule has gone on to the next one's."""
        self._learning_rate = float(optimizer.param_groups[0]["lr"])

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Counts the batch; logs every `log_every_n_steps`, the only times a tensor is read back from the device."""
        now = perf_counter()
        self.tokens += batch["ids"].numel() * trainer.world_size
        self.seconds, self._mark = self.seconds + now - self._mark, now
        stepped = not pl_module.accumulated
        due = trainer.global_step % self.log_every_n_steps == 0 or trainer.global_step == 1
        if stepped and (due or trainer.global_step >= trainer.max_steps):
            self._log(trainer, pl_module, n_tokens=batch["ids"].size(1))

    def _log(self, trainer: L.Trainer, pl_module: Any, *, n_tokens: int) -> None:
        self.loss = float(pl_module.step_loss)
        if not math.isfinite(self.loss):
            raise UserError(
                f"the training loss is {self.loss} at step {trainer.global_step}: lower optim.lr, or set "
                "trainer.gradient_clip_val; the last whole checkpoint is kept"
            )
        tokens, seconds = self._logged
        self.rate = (self.tokens - tokens) / max(self.seconds - seconds, 1e-9)
        self._logged = self.tokens, self.seconds
        metrics = {
            "train/loss": self.loss,
            **({"train/perplexity": math.exp(min(self.loss, 700.0))} if "perplexity" in pl_module.metrics else {}),
            "train/learning_rate": self._learning_rate,
            "train/gradient_norm": float(pl_module.grad_norm),
            "train/tokens": float(self.tokens),
            "train/tokens_per_second": self.rate,
            "train/mfu": self.rate * flops_per_token(pl_module.model, pl_module.head, n_tokens=n_tokens) / self._peak,
            "train/memory_gb": memory_in_use(trainer.strategy.root_device) / 1e9,
        }
        self._write(trainer, metrics)

    def _write(self, trainer: L.Trainer, metrics: dict[str, float]) -> None:
        for logger in trainer.loggers:
            logger.log_metrics(metrics, trainer.global_step)

    def on_validation_start(self, *_: Any) -> None:
        """Stops the clock."""
        self._mark = 0.0

    def on_validation_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Logs the validation under the step it belongs to; Lightning would count from 0."""
        self._write(trainer, validation_metrics(trainer))

    def on_save_checkpoint(self, *_: Any) -> None:
        """Stops the clock."""
        self._mark = 0.0

    def state_dict(self) -> dict[str, Any]:
        """The counts and what was logged last, for a run that goes on."""
        return {"tokens": self.tokens, "seconds": self.seconds, "loss": self.loss, "rate": self.rate}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse; the rate is measured anew from here."""
        self.tokens, self.seconds = self._logged = int(state_dict["tokens"]), float(state_dict["seconds"])
        self.loss, self.rate = float(state_dict["loss"]), float(state_dict["rate"])
