"""Lightning's Trainer, configured in optimizer steps instead of batches."""

import inspect
import logging
import math
import warnings
from typing import Annotated, Any, Literal, NamedTuple

import lightning as L
from lightning.pytorch.strategies import DDPStrategy
from torch.nn.parallel import DistributedDataParallel

from gptlab.bounds import AtLeast, Length, MoreThan
from gptlab.errors import UserError
from gptlab.hardware.precision import choose_precision, count_devices, device_type, warn_if_emulated
from gptlab.slots import slot
from gptlab.training.checkpoint import CheckpointFiles
from gptlab.training.lightning_internals import NoProfiler, prune_hooks, signals_as_exits

for _name in ("lightning.pytorch", "lightning.fabric"):  # they advertise, and repeat our own lines
    logging.getLogger(_name).setLevel(logging.WARNING)
# lightning 2.6 calls a name that torch 2.13 deprecates; users can do nothing about it
warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)` is deprecated")
# Throughput logs the first and the last step, however short the run
warnings.filterwarnings("ignore", message=r"The number of training batches .* is smaller than the logging interval")
# our batch order resumes where the run stopped, see data/samplers.py; Lightning's would restart the epoch
warnings.filterwarnings("ignore", message=r"You're resuming from a checkpoint that ended before the epoch ended")
# a user who resumes without one of the callbacks removed it on purpose
warnings.filterwarnings("ignore", message=r"Be aware that when using `ckpt_path`, callbacks used to create")


class Plan(NamedTuple):
    """The length of a run."""

    n_batches: int  # micro-batches per device; the last step takes the remaining ones
    n_steps: int  # optimizer steps
    steps_per_epoch: int


class TrainerParts(NamedTuple):
    """The objects that a trainer is built from."""

    callbacks: list[L.Callback]
    logger: Any  # Lightning loggers, or False
    files: CheckpointFiles
    plan: Plan


def make_plan(
    *, max_steps: int | None, max_epochs: int | None, n_rows: int, rows_at_once: int, accumulate_grad_batches: int
) -> Plan:
    """Return the run's length, by whichever limit comes first.

    A step may cross the end of an epoch, also of the last: every row is then read max_epochs times, and some once more.

    Args:
        n_rows: of an epoch.
        rows_at_once: of a micro-batch over all devices.

    Raises:
        UserError: neither limit is given.
    """
    if max_steps is None and max_epochs is None:
        raise UserError("trainer.max_steps and trainer.max_epochs are both null: give one, or the run has no end")
    by_steps = math.inf if max_steps is None else max_steps * accumulate_grad_batches
    by_epochs = math.inf if max_epochs is None else -(-max_epochs * n_rows // rows_at_once)
    n_batches = int(min(by_steps, by_epochs))
    return Plan(
        n_batches=n_batches,
        n_steps=math.ceil(n_batches / accumulate_grad_batches),
        steps_per_epoch=max(1, round(n_rows / rows_at_once / accumulate_grad_batches)),
    )


@slot("trainer")
def make_trainer(
    parts: TrainerParts,
    *,
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"],
    devices: Annotated[int, AtLeast(1)] | Literal["auto"] | Annotated[list[int], Length(1, None)],
    strategy: str,
    precision: Literal["auto", "32-true", "bf16-mixed", "bf16-true", "16-mixed", "16-true", "64-true", "tf32"],
    max_steps: Annotated[int, AtLeast(1)] | None,
    max_epochs: Annotated[int, AtLeast(1)] | None,
    val_check_interval: Annotated[int, AtLeast(1)] | None,
    accumulate_grad_batches: Annotated[int, AtLeast(1)] | Literal["auto"],
    gradient_clip_val: Annotated[float, MoreThan(0)] | None,
    log_every_n_steps: Annotated[int, AtLeast(1)],
    deterministic: bool | str,
) -> L.Trainer:
    """Return a Trainer that stops at the end of `parts.plan`.

    max_steps and max_epochs are not read here, because the plan was made from them.

    Args:
        precision: `auto` is bfloat16 if the device multiplies in it, else float32.
        val_check_interval: optimizer steps between two validations; None is once an epoch. The last step is validated
            too.
        accumulate_grad_batches: micro-batches per step; `auto` is resolved before, see training/micro_batch.py.
    """
    assert accumulate_grad_batches != "auto"
    warn_if_emulated(precision, device_type(accelerator))
    prune_hooks(parts.callbacks)
    several = count_devices(accelerator, devices) > 1 and strategy in ("auto", "ddp")
    return L.Trainer(
        accelerator=accelerator,
        devices=devices,
        strategy=_data_parallel() if several else strategy,
        precision=choose_precision(precision, accelerator),  # type: ignore[arg-type]
        max_steps=parts.plan.n_steps,
        max_epochs=-1,
        # Lightning counts micro-batches here, and from the run's start only if check_val_every_n_epoch is None
        val_check_interval=(val_check_interval or parts.plan.steps_per_epoch) * accumulate_grad_batches,
        check_val_every_n_epoch=None,
        accumulate_grad_batches=accumulate_grad_batches,
        gradient_clip_val=gradient_clip_val,
        log_every_n_steps=log_every_n_steps,
        deterministic=deterministic,  # type: ignore[arg-type]
        callbacks=parts.callbacks,
        logger=parts.logger,
        plugins=[parts.files],
        profiler=NoProfiler(),
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # the batch order is ours, see data/samplers.py
        enable_checkpointing=False,  # training/callbacks/checkpoints.py writes them
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _data_parallel() -> DDPStrategy:
    """Return a DDP strategy that never broadcasts buffers.

    They are constants, and broadcasting them would make ranks wait for one with fewer validation batches.
    """
    arguments = inspect.signature(DistributedDataParallel).parameters
    options: Any = {"forward_sync_buffers" if "forward_sync_buffers" in arguments else "broadcast_buffers": False}
    return DDPStrategy(**options)


def fit(trainer: L.Trainer, module: L.LightningModule, data: L.LightningDataModule, *, checkpoint: str | None) -> None:
    """Train, resuming from the checkpoint if there is one.

    Raises:
        KeyboardInterrupt: after Ctrl-C.
        UserError: the checkpoint's training state cannot be restored.
        SystemExit: 143 after SIGTERM.
    """
    with signals_as_exits():
        try:
            trainer.fit(module, data, ckpt_path=checkpoint)
        except Exception as error:
            started = hasattr(module, "trainable")  # set when the training state is restored
            if checkpoint is None or started or isinstance(error, OSError):
                raise
            reason = " ".join(str(error).split())[:300]
            raise UserError(
                f"resume={checkpoint}: its training state cannot be restored ({type(error).__name__}: {reason}): "
                "resume another checkpoint, or start a new run from its weights with weights=run"
            ) from error
