"""Lightning's Trainer, configured in optimizer steps instead of batches."""

import inspect
import logging
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
from lightning.pytorch.profilers import AdvancedProfiler, Profiler, SimpleProfiler
from lightning.pytorch.strategies import DDPStrategy, Strategy
from torch.nn.parallel import DistributedDataParallel

from gptlab.errors import UserError
from gptlab.hardware.precision import choose_precision, count_devices, device_type, warn_if_emulated
from gptlab.training.callbacks.average import AverageWeights
from gptlab.training.callbacks.checkpoints import BestCheckpoint, LastCheckpoint
from gptlab.training.callbacks.progress import ProgressLines
from gptlab.training.callbacks.signals import StopOnTime
from gptlab.training.checkpoint import CheckpointFiles
from gptlab.training.lightning_internals import NoProfiler, prune_hooks, signals_as_exits
from gptlab.training.planning.settings import Plan, TrainerSettings

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


class TrainerParts(NamedTuple):
    """The objects that a trainer is built from."""

    callbacks: list[L.Callback]
    logger: Any  # Lightning loggers, or False
    files: CheckpointFiles
    plan: Plan
    folder: Path  # the run's folder


def build_trainer(settings: TrainerSettings, parts: TrainerParts, *, accumulate_grad_batches: int) -> L.Trainer:
    """Return a Trainer that stops at the end of `parts.plan`.

    Args:
        accumulate_grad_batches: micro-batches per step; `auto` is resolved before, see training/micro_batch.py.
    """
    plan = parts.plan
    warn_if_emulated(settings.precision, device_type(settings.accelerator))
    callbacks = _chosen_callbacks(settings, parts.callbacks)
    prune_hooks(callbacks)
    return L.Trainer(
        **_passed_on(settings),
        strategy=_strategy(settings),
        precision=choose_precision(settings.precision, settings.accelerator),  # type: ignore[arg-type]
        max_steps=plan.n_steps,
        max_epochs=-1,
        min_epochs=0,  # with min_steps Lightning would set 1, and to it a run is one epoch
        min_steps=max(settings.min_steps or 0, (settings.min_epochs or 0) * plan.steps_per_epoch) or None,
        limit_val_batches=plan.val_batches,
        # Lightning counts micro-batches here, and from the run's start only if check_val_every_n_epoch is None
        val_check_interval=plan.val_interval * accumulate_grad_batches,
        check_val_every_n_epoch=None,
        accumulate_grad_batches=accumulate_grad_batches,
        callbacks=callbacks,
        logger=parts.logger,
        plugins=[parts.files],
        profiler=_profiler(settings.profiler, parts.folder),
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # the batch order is ours, see data/samplers.py
        enable_checkpointing=False,  # training/callbacks/checkpoints.py writes them
        enable_progress_bar=False,
    )


def _chosen_callbacks(settings: TrainerSettings, callbacks: list[L.Callback]) -> list[L.Callback]:
    """Return the callbacks without those that are switched off, and with the limit of time.

    A step's weights are averaged before another callback saves them.
    """
    unwanted: tuple[type[L.Callback], ...] = ()
    if not settings.enable_checkpointing:
        unwanted += (BestCheckpoint, LastCheckpoint)
    if not settings.enable_progress_bar:
        unwanted += (ProgressLines,)
    chosen = [callback for callback in callbacks if not isinstance(callback, unwanted)]
    chosen.sort(key=lambda callback: not isinstance(callback, AverageWeights))
    return chosen if settings.max_time is None else [*chosen, StopOnTime(settings.max_time)]


def _passed_on(settings: TrainerSettings) -> dict[str, Any]:
    """Return the arguments that Lightning gets as they are."""
    names = [
        *("accelerator", "num_nodes", "gradient_clip_val", "gradient_clip_algorithm", "log_every_n_steps"),
        *("deterministic", "benchmark", "detect_anomaly", "sync_batchnorm", "enable_model_summary"),
    ]
    every = "auto" if settings.devices == -1 else settings.devices  # -1 is an error to Lightning on a CPU
    return {"devices": every, **{name: getattr(settings, name) for name in names}}


def _profiler(kind: str | None, folder: Path) -> Profiler:
    """Return a profiler whose report is a file in the run's folder."""
    if kind is None:
        return NoProfiler()
    return (SimpleProfiler if kind == "simple" else AdvancedProfiler)(dirpath=folder, filename="profile")


def _strategy(settings: TrainerSettings) -> Strategy | str:
    """Return Lightning's strategy; for several devices one that never broadcasts buffers.

    They are constants, and broadcasting them would make ranks wait for one with fewer validation batches.
    """
    if count_devices(settings.accelerator, settings.devices) * settings.num_nodes == 1:
        return settings.strategy
    arguments = inspect.signature(DistributedDataParallel).parameters
    options: Any = {"forward_sync_buffers" if "forward_sync_buffers" in arguments else "broadcast_buffers": False}
    return DDPStrategy(find_unused_parameters=settings.strategy.endswith("true"), **options)


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
