"""The values of the next trial, by Optuna's samplers."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from gptlab.sweeps.search.space import Choice, Number, Space

Mode = Literal["min", "max"]
Sampler = Literal["tpe", "random"]
ATTEMPTS = 20  # to find values that no trial has had
MOST_LISTED = 10_000  # combinations of a space that are listed to find those left

optuna.logging.set_verbosity(optuna.logging.WARNING)  # it announces every study


def suggest(
    space: Space,
    trials: Sequence[FrozenTrial],
    *,
    mode: Mode,
    sampler: Sampler,
    startup_trials: int,
    seed: int,
) -> dict[str, Any] | None:
    """Return the values of the next trial, None if every combination has been tried.

    They depend on the arguments only: a search that was killed goes on as it would have. No two trials have the same
    values, because the second would train the same run again.

    Args:
        trials: all trials so far, in order.
        mode: `min` or `max`.
        startup_trials: trials with random values before the sampler learns from results.
    """
    tried = [trial.params for trial in trials]
    memory = [_as_evidence(trial) for trial in trials]
    for attempt in range(ATTEMPTS):
        seed_now = int(np.random.SeedSequence([seed, len(trials), attempt]).generate_state(1)[0])
        chosen = _sampler(sampler, startup_trials, seed_now)
        study = optuna.create_study(direction=direction_of(mode), sampler=chosen)
        study.add_trials(memory)
        sampled = study.ask(distributions(space)).params
        values = {key: parameter.rounded(sampled[key]) for key, parameter in space.parameters.items()}
        if values not in tried:
            return values
    if space.size > MOST_LISTED:
        return values
    left = [values for values in space.combinations() if values not in tried]
    return left[np.random.default_rng([seed, len(trials)]).integers(len(left))] if left else None


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Return the space in Optuna's terms."""
    return {key: _distribution(parameter) for key, parameter in space.parameters.items()}


def direction_of(mode: Mode) -> Literal["minimize", "maximize"]:
    """Return Optuna's word for a monitor's mode."""
    return "minimize" if mode == "min" else "maximize"


def _distribution(parameter: Number | Choice) -> BaseDistribution:
    if isinstance(parameter, Choice):
        return CategoricalDistribution(parameter.options)
    if parameter.whole:
        low, high, step = int(parameter.low), int(parameter.high), int(parameter.step or 1)
        return IntDistribution(low, high, log=parameter.log, step=step)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def _sampler(name: Sampler, startup_trials: int, seed: int) -> BaseSampler:
    if name == "random":
        return RandomSampler(seed=seed)
    return TPESampler(seed=seed, n_startup_trials=startup_trials)


def _as_evidence(trial: FrozenTrial) -> FrozenTrial:
    """Return a trial as the sampler shall see it.

    Optuna leaves failed trials out, and would suggest the neighbours of a learning rate that diverged again. Here they
    count as the worst: pruned at the first step, with no number.
    """
    if trial.state != TrialState.FAIL:
        return trial
    return create_trial(
        state=TrialState.PRUNED,
        params=trial.params,
        distributions=trial.distributions,
        intermediate_values={0: math.nan},
    )
