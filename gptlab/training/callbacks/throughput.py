"""The curves of training: the loss, how the weights are moved, and the work that it takes."""

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
from gptlab.training.callbacks.weights.update_ratio import UpdateRatio
from gptlab.training.context import DivergedError
from gptlab.training.loggers import begin_by_tokens, show_by_tokens
from gptlab.training.mfu import flops_per_token
from gptlab.training.optimizers import rate_groups


class Throughput(L.Callback):
    """Log the loss of training, how it moves the weights, and the work that it takes.

    The first part of a curve's name is its group on TensorBoard's pages, which sort them by name: `train` and `val`
    come first, `weights` and `work` follow. gptlab/README.md lists the names. The seconds leave out validation, samples
    and checkpoints, so that the rate is that of training alone.
    """

    def __init__(self, *, log_every_n_steps: int) -> None:
        self.log_every_n_steps = log_every_n_steps
        self.tokens = 0
        self.seconds = 0.0
        self.seconds_before = 0.0  # in all, of the run that is resumed: up to the checkpoint
        self.memory = 0  # the most bytes in use at a log
        self.update_ratio = UpdateRatio()
        self._began = perf_counter()
        self._rates: dict[str, float] = {}  # learning rates of the last step, by name
        self._mark = 0.0  # when the clock was last read; 0 if it is stopped
        self._logged = (0, 0.0)  # tokens and seconds at the last log

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Find the device's peak before the clock starts."""
        device = trainer.strategy.root_device
        self._peak = peak_flops(device, effective_precision(trainer.precision)) * trainer.world_size
        self._rate_groups = rate_groups(trainer.optimizers[0])
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        begin_by_tokens(trainer, self.tokens)

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        """Start the clock, if it is stopped."""
        self._mark = self._mark or perf_counter()
        pl_module.measures_step = bool(trainer.loggers) and self._is_due(trainer, trainer.global_step + 1)

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: Any, optimizer: Optimizer) -> None:
        """Record the step's learning rates, and the weights if the step is logged.

        At the end of the step the schedule has already set the next rates.
        """
        self._rates = {name: float(optimizer.param_groups[n]["lr"]) for name, n in self._rate_groups.items()}
        if pl_module.measures_step and trainer.is_global_zero:
            self.update_ratio.copy(pl_module)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count the batch, and log every `log_every_n_steps` steps.

        Only then is a tensor read back from the device, which waits for it.
        """
        now = perf_counter()
        self.tokens += batch["ids"].numel() * trainer.world_size
        self.seconds, self._mark = self.seconds + now - self._mark, now
        if not pl_module.accumulated and self._is_due(trainer, trainer.global_step):
            self._log(trainer, pl_module, n_tokens=batch["ids"].size(1))

    def _is_due(self, trainer: L.Trainer, step: int) -> bool:
        """Return whether a step is logged: the first, the last, and every `log_every_n_steps`."""
        return step == 1 or step % self.log_every_n_steps == 0 or step >= trainer.max_steps

    def _log(self, trainer: L.Trainer, pl_module: Any, *, n_tokens: int) -> None:
        loss = float(pl_module.step_loss)
        if not math.isfinite(loss):
            raise DivergedError("the training loss", loss, trainer.global_step)
        tokens, seconds = self._logged
        rate = (self.tokens - tokens) / max(self.seconds - seconds, 1e-9)
        self._logged = self.tokens, self.seconds
        memory = memory_in_use(trainer.strategy.root_device)
        self.memory = max(self.memory, memory)
        metrics = {
            "train/loss": loss,
            **({"train/perplexity": math.exp(min(loss, 700.0))} if "perplexity" in pl_module.metrics else {}),
            **self._step_metrics(pl_module),
            **{f"weights/{name}": value for name, value in self._rates.items()},
            "weights/gradient_norm": float(pl_module.grad_norm),
            **self.update_ratio.measure(pl_module),
            "work/tokens_per_second": rate,
            "work/mfu": rate * flops_per_token(pl_module.model, pl_module.head, n_tokens=n_tokens) / self._peak,
            "work/memory_gb": memory / 1e9,
            "work/tokens": float(self.tokens),
            **({"work/epoch": trainer.datamodule.epochs} if trainer.datamodule else {}),  # type: ignore[attr-defined]
        }
        self._write(trainer, metrics)

    def _step_metrics(self, pl_module: Any) -> dict[str, float]:
        """Return the head's metrics of the step, over all its micro-batches and ranks."""
        values = {}
        for name, metric in pl_module.step_metrics.items():
            if metric.update_called:
                values[f"train/{name}"] = float(metric.compute())
                metric.reset()
        return values

    def _write(self, trainer: L.Trainer, metrics: dict[str, float]) -> None:
        for logger in trainer.loggers:
            logger.log_metrics(metrics, trainer.global_step)
        show_by_tokens(trainer, metrics, self.tokens)

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
        total = self.seconds_before + perf_counter() - self._began
        return {"tokens": self.tokens, "seconds": self.seconds, "total_seconds": total, "memory": self.memory}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counts; the next rate is measured from here."""
        self.tokens, self.seconds = self._logged = int(state_dict["tokens"]), float(state_dict["seconds"])
        self.memory = int(state_dict.get("memory", 0))  # a checkpoint of an earlier version has none
        self.seconds_before = float(state_dict.get("total_seconds", self.seconds))  # checkpoints before 0.2.0 have none
