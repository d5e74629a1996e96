"""Lightning's Trainer, in gptlab's words: everything that counts counts optimizer steps."""

import inspect
import logging
import math
import signal
import warnings
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any, Literal, NamedTuple

import lightning as L
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.nn.parallel import DistributedDataParallel

from gptlab.errors import UserError
from gptlab.hardware.precision import check_accelerator, choose_precision, count_devices, device_type, warn_if_emulated
from gptlab.slots import slot
from gptlab.training.checkpoint import CheckpointFiles

for _name in ("lightning.pytorch", "lightning.fabric"):  # they advertise, and repeat what our own lines say
    logging.getLogger(_name).setLevel(logging.WARNING)
# lightning 2.6 calls a name that torch 2.13 is about to drop; nothing for a user to do
warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)` is deprecated")
# Throughput logs the first and the last step, however short the run
warnings.filterwarnings("ignore", message=r"The number of training batches .* is smaller than the logging interval")
# its own loaders would begin the epoch anew; ours begins where the run stopped, see data/order.py
warnings.filterwarnings("ignore", message=r"You're resuming from a checkpoint that ended before the epoch ended")
# who left a callback out of a run that goes on knows it
warnings.filterwarnings("ignore", message=r"Be aware that when using `ckpt_path`, callbacks used to create")


class _Unprofiled(PassThroughProfiler):
    """Lightning asks around each hook of each callback, a hundred times a step: nothing costs what it is."""

    nothing = nullcontext()

    def profile(self, action_name: str) -> Any:
        """Measures nothing, without a generator made for it; callbacks/profile.py is what measures."""
        return self.nothing


EACH_STEP = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)


def _leave_out_empty_hooks(callbacks: Iterable[L.Callback]) -> None:
    """Takes away what does nothing: Lightning calls every hook of every callback at each step, most for nothing.

    It passes over what cannot be called; python -m tests.benchmarks.loop shows what is left.
    """
    for callback in callbacks:
        for hook in EACH_STEP:
            if getattr(type(callback), hook) is getattr(L.Callback, hook):
                setattr(callback, hook, None)


class Plan(NamedTuple):
    """How long a run is."""

    n_batches: int  # that each device goes through; the last step takes what is left of them
    n_steps: int  # of the optimizer
    steps_per_epoch: int


class TrainerParts(NamedTuple):
    """What a trainer works with."""

    callbacks: list[L.Callback]
    logger: Any  # a Lightning logger, or False
    files: CheckpointFiles
    plan: Plan


def make_plan(
    *, max_steps: int | None, max_epochs: int | None, batches_per_epoch: int, accumulate_grad_batches: int
) -> Plan:
    """The whole run: whichever of the two limits comes first. Steps take no notice of where an epoch ends.

    Raises:
        UserError: neither limit is given.
    """
    if max_steps is None and max_epochs is None:
        raise UserError("trainer.max_steps and trainer.max_epochs are both null: give one, or the run has no end")
    by_steps = math.inf if max_steps is None else max_steps * accumulate_grad_batches
    by_epochs = math.inf if max_epochs is None else max_epochs * batches_per_epoch
    n_batches = int(min(by_steps, by_epochs))
    return Plan(
        n_batches=n_batches,
        n_steps=math.ceil(n_batches / accumulate_grad_batches),
        steps_per_epoch=math.ceil(batches_per_epoch / accumulate_grad_batches),
    )


@slot("trainer")
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
    accumulate_grad_batches: int | Literal["auto"],
    gradient_clip_val: float | None,
    log_every_n_steps: int,
    deterministic: bool | str,
) -> L.Trainer:
    """A Trainer that stops after `parts.plan`, which max_steps and max_epochs gave.

    Args:
        precision: `auto` is bfloat16 where the device multiplies in it, else float32.
        val_check_interval: optimizer steps between two validations; None is once an epoch. The last step has one too.
        accumulate_grad_batches: batches of a step; a run has found out what `auto` is, see training/parts.py.
    """
    assert accumulate_grad_batches != "auto"
    check_accelerator(accelerator)
    warn_if_emulated(precision, device_type(accelerator))
    _leave_out_empty_hooks(parts.callbacks)
    several = count_devices(accelerator, devices) > 1 and strategy in ("auto", "ddp")
    return L.Trainer(
        accelerator=accelerator,
        devices=devices,
        strategy=_data_parallel() if several else strategy,
        precision=choose_precision(precision, accelerator),  # type: ignore[arg-type]
        max_steps=parts.plan.n_steps,
        max_epochs=-1,
        # Lightning counts micro-batches here; without the second argument it would start anew with every epoch
        val_check_interval=(val_check_interval or parts.plan.steps_per_epoch) * accumulate_grad_batches,
        check_val_every_n_epoch=None,
        accumulate_grad_batches=accumulate_grad_batches,
        gradient_clip_val=gradient_clip_val,
        log_every_n_steps=log_every_n_steps,
        deterministic=deterministic,  # type: ignore[arg-type]
        callbacks=parts.callbacks,
        logger=parts.logger,
        plugins=[parts.files],
        profiler=_Unprofiled(),
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # the batch order is ours, see data/order.py
        enable_checkpointing=False,  # training/callbacks/checkpoints.py writes them
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _data_parallel() -> DDPStrategy:
    """Buffers are constants: sending them around would make devices wait for one with fewer validation batches."""
    known = inspect.signature(DistributedDataParallel).parameters
    options: Any = {"forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False}
    return DDPStrategy(**options)


def fit(trainer: L.Trainer, module: L.LightningModule, data: L.LightningDataModule, *, checkpoint: str | None) -> None:
    """Trains, from the checkpoint on where one is given.

    Raises:
        KeyboardInterrupt: after Ctrl-C, of which Lightning would make an exit with status 1.
        UserError: the checkpoint's training state cannot be restored.
        SystemExit: 143 after SIGTERM, of which Lightning would make a success.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(module, data, ckpt_path=checkpoint)
    except SIGTERMException:  # it came before callbacks/signals.py was there to receive it
        raise SystemExit(128 + signal.SIGTERM) from None
    except Exception as error:
        if checkpoint is None or hasattr(module, "learning") or isinstance(error, OSError):
            raise
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"resume={checkpoint}: its training state cannot be restored ({type(error).__name__}: {reason}): resume "
            "another checkpoint, or start a new run from its weights with weights=run"
        ) from error
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):
            signal.signal(signal.SIGINT, handler)  # Lightning leaves it ignored
            raise KeyboardInterrupt from None
        raise
