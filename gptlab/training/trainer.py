"""Lightning's Trainer, in gptlab's words: everything that counts counts optimizer steps."""

import logging
import math
import signal
import warnings
from typing import Any, NamedTuple

import lightning as L

from gptlab.training.checkpoint import CheckpointFiles
from gptlab.training.precision import check_accelerator, choose_precision

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # it advertises, and repeats what our own lines say
# lightning 2.6 calls a name that torch 2.13 is about to drop; nothing for a user to do
warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)` is deprecated")
# Meter logs the first and the last step, however short the run
warnings.filterwarnings("ignore", message=r"The number of training batches .* is smaller than the logging interval")


class TrainerParts(NamedTuple):
    """What a trainer works with."""

    callbacks: list[L.Callback]
    logger: Any  # a Lightning logger, or False
    files: CheckpointFiles
    total_steps: int


def total_steps(*, max_steps: int | None, max_epochs: int | None, n_batches: int, accumulate_grad_batches: int) -> int:
    """Optimizer steps of the whole run: whichever of the two limits comes first.

    Raises:
        ValueError: neither limit is given.
    """
    if max_steps is None and max_epochs is None:
        raise ValueError("trainer.max_steps and trainer.max_epochs are both null: give one, or the run has no end")
    by_epochs = math.inf if max_epochs is None else max_epochs * math.ceil(n_batches / accumulate_grad_batches)
    return int(min(math.inf if max_steps is None else max_steps, by_epochs))


def make_trainer(
    parts: TrainerParts,
    *,
    accelerator: str,
    devices: int | str | list[int],
    strategy: str,
    precision: str,
    max_steps: int | None,
    max_epochs: int | None,
    val_check_interval: int | None,
    accumulate_grad_batches: int,
    gradient_clip_val: float | None,
    log_every_n_steps: int,
    deterministic: bool | str,
) -> L.Trainer:
    """A Trainer that stops after `parts.total_steps`, which max_steps and max_epochs gave.

    Args:
        precision: `auto` is bfloat16 where the device multiplies in it, else float32.
        val_check_interval: optimizer steps between two validations; None is once an epoch. The last step has one too.
    """
    check_accelerator(accelerator)
    return L.Trainer(
        accelerator=accelerator,
        devices=devices,
        strategy=strategy,
        precision=choose_precision(precision, accelerator),  # type: ignore[arg-type]
        max_steps=parts.total_steps,
        max_epochs=-1,
        # Lightning counts micro-batches here; without the second argument it would start anew with every epoch
        val_check_interval=None if val_check_interval is None else val_check_interval * accumulate_grad_batches,
        check_val_every_n_epoch=1 if val_check_interval is None else None,
        accumulate_grad_batches=accumulate_grad_batches,
        gradient_clip_val=gradient_clip_val,
        log_every_n_steps=log_every_n_steps,
        deterministic=deterministic,  # type: ignore[arg-type]
        callbacks=parts.callbacks,
        logger=parts.logger,
        plugins=[parts.files],
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # the batch order is ours, see data/order.py
        enable_checkpointing=False,  # training/callbacks/checkpoints.py writes them
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def fit(trainer: L.Trainer, module: L.LightningModule, data: L.LightningDataModule) -> None:
    """Trains.

    Raises:
        KeyboardInterrupt: after Ctrl-C, of which Lightning would make an exit with status 1.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(module, data)
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):
            signal.signal(signal.SIGINT, handler)  # Lightning leaves it ignored
            raise KeyboardInterrupt from None
        raise
