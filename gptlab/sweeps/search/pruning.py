"""Ends hopeless trials, in the process that trains them.

The other trials' validations are in the journal, so the process may be any.
"""

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptlab.sweeps.search.journal import STUDY, is_search, open_journal

if TYPE_CHECKING:
    from optuna.storages.journal import JournalStorage

log = logging.getLogger(__name__)


def trial_judge(hydra: Any) -> Callable[[int, float, int], bool] | None:
    """Return the function that tells the study a validation, and returns whether the trial is hopeless.

    It takes the step, the monitored metric's value and the trial's count of steps. A step is told once: a trial that
    was killed and resumed validates some steps again.

    Args:
        hydra: Hydra's settings of the job.

    Returns:
        None for a job that is no trial of a search.
    """
    sweep, number, settings = Path(hydra.sweep.dir), int(hydra.job.num), hydra.sweeper
    if not is_search(sweep) or "pruner" not in settings:
        return None

    def is_hopeless(step: int, value: float, n_steps: int) -> bool:
        storage = open_journal(sweep)
        study_id = storage.get_study_id_from_name(STUDY)
        trial_id = storage.get_trial_id_from_study_id_trial_number(study_id, number)
        trial = storage.get_trial(trial_id)
        if trial.state.is_finished() or not math.isfinite(value):
            return False
        if step not in trial.intermediate_values:
            storage.set_trial_intermediate_value(trial_id, step, value)
        warmup = settings.pruner_warmup_steps
        if settings.pruner == "none" or step < (warmup * n_steps if isinstance(warmup, float) else warmup):
            return False
        return _is_worse(storage, trial_id, step, startup_trials=settings.pruner_startup_trials)

    return is_hopeless


def _is_worse(storage: "JournalStorage", trial_id: int, step: int, *, startup_trials: int) -> bool:
    """Return whether a trial's best value is worse than the median of the complete trials at the step."""
    from optuna import load_study
    from optuna.pruners import MedianPruner
    from optuna.samplers import RandomSampler

    study = load_study(study_name=STUDY, storage=storage, sampler=RandomSampler())
    trial = storage.get_trial(trial_id)
    known = trial.intermediate_values  # also of later steps, if the trial was killed after them
    trial.intermediate_values = {there: value for there, value in known.items() if there <= step}
    if not MedianPruner(n_startup_trials=startup_trials).prune(study, trial):
        return False
    log.info(f"pruned at step {step}: no better than the median of the complete trials at this step")
    return True
