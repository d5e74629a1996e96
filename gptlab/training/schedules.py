"""Learning-rate schedules: step -> fraction of `optim.lr`, or a scheduler of torch."""

import math
import warnings
from collections.abc import Callable
from typing import Annotated, Any

from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from gptlab.bounds import AtLeast, AtMost
from gptlab.errors import UserError
from gptlab.slots import slot

UNUSABLE = {  # classes of torch.optim.lr_scheduler that cannot be a run's -> why; config/admission.py reads it
    "LambdaLR": "it needs a function: write one in gptlab/training/schedules.py",
    "MultiplicativeLR": "it needs a function: write one in gptlab/training/schedules.py",
    "SequentialLR": "it needs other schedulers: choose one of them, or schedule=wsd or cosine, which warm up",
    "ChainedScheduler": "it needs other schedulers: choose one of them, or schedule=wsd or cosine, which warm up",
    "ReduceLROnPlateau": "it follows what validations find, so that no step's rate could be recomputed when the run is "
    "resumed or extended: choose another schedule, or stop early with callbacks.early_stopping",
}
FIXED = {  # arguments of a torch scheduler that a configuration cannot give -> why
    "last_epoch": "a resumed run knows its step",
    "epochs": "a cycle is as long as the run, trainer.max_steps",
    "steps_per_epoch": "a cycle is as long as the run, trainer.max_steps",
    "scale_fn": "a configuration holds no functions",
}
LENGTHS = {  # class -> its argument that is the run's number of steps unless it is given
    "OneCycleLR": "total_steps",
    "CosineAnnealingLR": "T_max",
    "PolynomialLR": "total_iters",
}


def _warmup(step: int, warmup_steps: int, start_factor: float) -> float:
    """Rise linearly from `start_factor` to 1 at step `warmup_steps`."""
    return start_factor + (1 - start_factor) * step / warmup_steps


@slot("schedule")
def constant(
    step: int,
    *,
    total_steps: int,
    warmup_steps: Annotated[int, AtLeast(0)],
    start_factor: Annotated[float, AtLeast(0), AtMost(1)],
) -> float:
    """Stay at 1 after a warm-up."""
    return _warmup(step, warmup_steps, start_factor) if step < warmup_steps else 1.0


@slot("schedule")
def cosine(
    step: int,
    *,
    total_steps: int,
    warmup_steps: Annotated[int, AtLeast(0)],
    start_factor: Annotated[float, AtLeast(0), AtMost(1)],
    end_factor: Annotated[float, AtLeast(0), AtMost(1)],
) -> float:
    """Fall along half a cosine after a warm-up.

    Source: SGDR, arXiv 1608.03983.

    Args:
        total_steps: the step at which `end_factor` is reached; it stays there.
        start_factor: the fraction at step 0.
    """
    if step < warmup_steps:
        return _warmup(step, warmup_steps, start_factor)
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return end_factor + (1 - end_factor) * 0.5 * (1 + math.cos(math.pi * progress))


@slot("schedule")
def wsd(
    step: int,
    *,
    total_steps: int,
    warmup_steps: Annotated[int, AtLeast(0)],
    start_factor: Annotated[float, AtLeast(0), AtMost(1)],
    decay_fraction: Annotated[float, AtLeast(0), AtMost(1)],
    end_factor: Annotated[float, AtLeast(0), AtMost(1)],
) -> float:
    """Warm up, stay at 1, then decay linearly.

    Source: MiniCPM, arXiv 2404.06395. A warm-up that overlaps the decay ends where the two lines meet.

    Args:
        total_steps: the step at which `end_factor` is reached; it stays there.
        start_factor: the fraction at step 0.
        decay_fraction: the share of the total steps, at their end, in which the rate decays.
    """
    warmup = _warmup(step, warmup_steps, start_factor) if step < warmup_steps else 1.0
    remaining = max(0, total_steps - step) / max(1.0, decay_fraction * total_steps)
    return min(warmup, end_factor + (1 - end_factor) * min(1.0, remaining))


@slot("schedule")
class TorchSchedule:
    """A scheduler of torch.optim.lr_scheduler, which takes a step after each of the optimizer's.

    Args:
        total_steps: of the run; the length of a scheduler that needs one and is given none.
        name: of the class.
        options: further arguments of the class.

    Raises:
        UserError: there is no such class, or it cannot be a run's.
    """

    def __init__(self, *, total_steps: int, name: str, **options: Any) -> None:
        kind = getattr(lr_scheduler, name, None)
        if not (isinstance(kind, type) and issubclass(kind, LRScheduler)) or name in UNUSABLE:
            reason = UNUSABLE.get(name, "torch.optim.lr_scheduler has no such scheduler")
            raise UserError(f"schedule.name is {name!r:.80}: {reason}")
        if name in LENGTHS and options.get(LENGTHS[name]) is None:
            options[LENGTHS[name]] = total_steps
        self.name, self.kind, self.options = name, kind, options

    def scheduler(self, optimizer: Optimizer) -> LRScheduler:
        """Return the optimizer's scheduler.

        Raises:
            UserError: PyTorch refuses the values.
        """
        try:
            return self.kind(optimizer, **self.options)
        except (TypeError, ValueError, ZeroDivisionError) as error:
            raise UserError(f"schedule.name={self.name}: PyTorch refuses its values ({error}): correct them") from error


Schedule = Callable[[int], float] | TorchSchedule
ENDLESS = 10**12  # steps of a run whose end no schedule sees coming


def n_shared_steps(schedule: Callable[..., Any], total_steps: int) -> int:
    """Return how many first steps a run has in common with every longer one.

    They are those before the decay, whose rates do not depend on the run's length. It is 0 for a scheduler of torch,
    whose length may be one of its arguments.

    Args:
        schedule: waits for the step and for `total_steps`.
    """
    if getattr(schedule, "func", schedule) is TorchSchedule:
        return 0

    def differs(step: int) -> bool:
        return schedule(step, total_steps=total_steps) != schedule(step, total_steps=ENDLESS)

    return next(filter(differs, range(total_steps)), total_steps)


def scheduler_after(schedule: Schedule, optimizer: Optimizer, step: int) -> LRScheduler:
    """Return a new optimizer's scheduler after some steps, and set its rates to match.

    A scheduler of torch computes each rate from the one before, so its steps are repeated, which gives the same bits.
    """
    if not isinstance(schedule, TorchSchedule):
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        return LambdaLR(optimizer, schedule, last_epoch=step - 1)
    scheduler = schedule.scheduler(optimizer)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Detected call of `lr_scheduler\.step\(\)` before")
        for _ in range(step):
            scheduler.step()
    return scheduler
