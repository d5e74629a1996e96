"""Learning-rate schedules: pure functions from a step to the fraction of `optim.lr` it takes."""

import math

from gptlab.slots import slot


def _warmup(step: int, warmup_steps: int, start_factor: float) -> float:
    """Rises in a straight line from `start` to 1, which step `warmup_steps` is the first to take."""
    return start_factor + (1 - start_factor) * step / warmup_steps


@slot("schedule")
def constant(step: int, *, total_steps: int, warmup_steps: int, start_factor: float) -> float:
    """The same rate for ever, after a warm-up."""
    return _warmup(step, warmup_steps, start_factor) if step < warmup_steps else 1.0


@slot("schedule")
def cosine(step: int, *, total_steps: int, warmup_steps: int, start_factor: float, end_factor: float) -> float:
    """Half a cosine from 1 down to `end`, after a warm-up (SGDR, arXiv 1608.03983).

    Args:
        total_steps: the step at which `end` is reached; it stays there.
        start: the fraction that the first step takes.
    """
    if step < warmup_steps:
        return _warmup(step, warmup_steps, start_factor)
    done = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return end_factor + (1 - end_factor) * 0.5 * (1 + math.cos(math.pi * done))


@slot("schedule")
def wsd(
    step: int, *, total_steps: int, warmup_steps: int, start_factor: float, decay_fraction: float, end_factor: float
) -> float:
    """Warm-up, stable, decay: 1 after a warm-up, then a straight line down to `end` (MiniCPM, arXiv 2404.06395).

    A warm-up that runs into the decline ends where the two lines meet.

    Args:
        total_steps: the step at which `end` is reached; it stays there.
        start: the fraction that the first step takes.
        decay_fraction: of the total steps, the last, in which it falls.
    """
    up = _warmup(step, warmup_steps, start_factor) if step < warmup_steps else 1.0
    left = max(0, total_steps - step) / max(1.0, decay_fraction * total_steps)
    return min(up, end_factor + (1 - end_factor) * min(1.0, left))
