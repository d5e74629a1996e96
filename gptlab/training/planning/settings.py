"""The arguments of Lightning's Trainer, and the length of the run that they give.

Lightning takes seconds to import, and `gptlab plan` needs neither: nothing here imports it.
"""

import logging
import math
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

from gptlab.bounds import AtLeast, AtMost, Length, MoreThan
from gptlab.errors import UserError
from gptlab.slots import slot

log = logging.getLogger(__name__)


@slot("trainer")
@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """The arguments of Lightning's Trainer that a run honours.

    `conf/trainer/default.yaml` says what each does. Those that it cannot honour, and why, are in `config/rules.py`.
    """

    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"]
    devices: Annotated[int, AtLeast(1)] | Literal["auto", -1] | Annotated[list[int], Length(1, None)]
    num_nodes: Annotated[int, AtLeast(1)]
    strategy: str
    precision: Literal["auto", "32-true", "bf16-mixed", "bf16-true", "16-mixed", "16-true", "64-true", "tf32"]
    max_steps: Annotated[int, AtLeast(1)] | None
    max_epochs: Annotated[int, AtLeast(1)] | None
    max_time: str | dict[str, float] | None
    min_steps: Annotated[int, AtLeast(1)] | None
    min_epochs: Annotated[int, AtLeast(1)] | None
    limit_train_batches: Annotated[int, AtLeast(1)] | Annotated[float, MoreThan(0), AtMost(1)] | None
    limit_val_batches: Annotated[int, AtLeast(0)] | Annotated[float, MoreThan(0), AtMost(1)] | None
    val_check_interval: Annotated[int, AtLeast(1)] | Annotated[float, MoreThan(0), AtMost(1)] | None
    check_val_every_n_epoch: Annotated[int, AtLeast(1)] | None
    accumulate_grad_batches: Annotated[int, AtLeast(1)] | Literal["auto"]
    gradient_clip_val: Annotated[float, MoreThan(0)] | None
    gradient_clip_algorithm: Literal["norm", "value"]
    log_every_n_steps: Annotated[int, AtLeast(1)]
    deterministic: bool | Literal["warn"]
    benchmark: bool | None
    detect_anomaly: bool
    sync_batchnorm: bool
    profiler: Literal["simple", "advanced"] | None
    enable_checkpointing: bool
    enable_progress_bar: bool
    enable_model_summary: bool


class Division(NamedTuple):
    """How the rows of a step are divided."""

    batch_size: int  # rows of a micro-batch on each device
    accumulation: int  # micro-batches per step
    world_size: int  # devices


class Plan(NamedTuple):
    """The length of a run."""

    n_batches: int  # micro-batches per device; the last step takes the remaining ones
    n_steps: int  # optimizer steps
    epoch_rows: int  # rows of an epoch
    steps_per_epoch: int
    val_interval: int  # steps between two validations
    val_batches: int  # micro-batches of each device in a validation

    def n_validations(self, start: int) -> int:
        """Return the validations after a step; the last step has one."""
        return math.ceil(self.n_steps / self.val_interval) - start // self.val_interval


def make_plan(
    settings: TrainerSettings, *, n_rows: int, rows_at_once: int, val_batches: int, accumulate_grad_batches: int
) -> Plan:
    """Return the run's length, by whichever limit comes first.

    A step may cross the end of an epoch, also of the last: every row is then read max_epochs times, and some once more.

    Args:
        n_rows: of the training set.
        rows_at_once: of a micro-batch over all devices.
        val_batches: micro-batches of each device in the validation set.

    Raises:
        UserError: neither limit is given.
    """
    max_steps, max_epochs = settings.max_steps, settings.max_epochs
    if max_steps is None and max_epochs is None:
        raise UserError("trainer.max_steps and trainer.max_epochs are both null: give one, or the run has no end")
    n_limited = _limited("an epoch", -(-n_rows // rows_at_once), "limit_train_batches", settings.limit_train_batches)
    epoch_rows = min(n_rows, n_limited * rows_at_once)
    by_steps = math.inf if max_steps is None else max_steps * accumulate_grad_batches
    by_epochs = math.inf if max_epochs is None else -(-max_epochs * epoch_rows // rows_at_once)
    n_batches = int(min(by_steps, by_epochs))
    steps_per_epoch = max(1, round(epoch_rows / rows_at_once / accumulate_grad_batches))
    interval = settings.val_check_interval
    if isinstance(interval, float):
        interval = max(1, int(interval * steps_per_epoch))
    plan = Plan(
        n_batches=n_batches,
        n_steps=math.ceil(n_batches / accumulate_grad_batches),
        epoch_rows=epoch_rows,
        steps_per_epoch=steps_per_epoch,
        val_interval=interval or steps_per_epoch * (settings.check_val_every_n_epoch or 1),
        val_batches=_limited("a validation", val_batches, "limit_val_batches", settings.limit_val_batches),
    )
    if max_steps is not None and plan.n_steps < max_steps:
        log.info(f"trainer.max_epochs={max_epochs} ends the run after {plan.n_steps:,} of {max_steps:,} steps")
    return plan


def _limited(name: str, n_batches: int, key: str, limit: float | None) -> int:
    """Return a number of batches within a limit, which is a number or a share."""
    if limit is None:
        return n_batches
    allowed = max(1, int(n_batches * limit)) if isinstance(limit, float) else limit
    if allowed < n_batches:
        log.info(f"{name} has {allowed:,} of {n_batches:,} batches: trainer.{key}={limit}")
    return min(n_batches, allowed)
