"""Learning-rate schedules: step -> fraction of `optim.lr`."""

import math
from typing import Annotated

from gptlab.bounds import AtLeast, AtMost
from gptlab.slots import slot


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
