"""The search as a sweeper of Hydra: `hydra/sweeper=search`."""

import itertools
import logging
import math
import re
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Annotated, Any, Literal

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from gptlab.bounds import AtLeast, MoreThan
from gptlab.config.admission import load
from gptlab.errors import UserError
from gptlab.storage.atomic import atomic_write
from gptlab.sweeps.leaderboard.next_steps import resume_command
from gptlab.sweeps.search.space import Space, read_space

if TYPE_CHECKING:
    from gptlab.sweeps.search.study import SearchStudy, Trial

log = logging.getLogger(__name__)

WAIT_SECONDS = 1.0  # between two looks at the trials of other processes
ROUNDS = 4  # of trials suggested at once, at least, unless the user gives their count
UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


class Search(Sweeper):
    """A search on Optuna, whose trials are jobs of Hydra's launcher.

    `conf/hydra/sweeper/search.yaml` says what each argument does. The study is in the sweep's folder, and a trial's
    number is its job's. Trials that are suggested at once do not know of each other's results.
    """

    def __init__(
        self,
        *,
        n_trials: Annotated[int, AtLeast(1)],
        timeout: Annotated[float, MoreThan(0)] | str | None,
        seed: Annotated[int, AtLeast(0)],
        sampler: Literal["tpe", "random"],
        startup_trials: Annotated[int, AtLeast(1)],
        n_jobs: Annotated[int, AtLeast(1)] | None,
        pruner: Literal["median", "none"],
        pruner_startup_trials: Annotated[int, AtLeast(1)],
        pruner_warmup_steps: Annotated[int, AtLeast(0)] | Annotated[float, AtLeast(0)],
        params: dict[str, Any],
    ) -> None:
        self.n_trials, self.seconds = n_trials, read_seconds(timeout)
        self.seed, self.sampler, self.startup_trials, self.n_jobs = seed, sampler, startup_trials, n_jobs
        self.pruner = pruner  # with its settings, the trials read it from Hydra's configuration
        self.params = params

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra hands over, and build the launcher."""
        self.hydra_context: HydraContext = hydra_context
        self.config: DictConfig = config
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run the search.

        Raises:
            SystemExit: 1 after a user's error, for which Hydra would print a traceback, 130 after Ctrl-C.
        """
        try:
            self._search(read_space(self.params, arguments))
        except UserError as error:
            print(error, file=sys.stderr)
            sys.exit(1)
        except KeyboardInterrupt:  # between two trials; a trial exits by itself
            sys.exit(130)

    def _search(self, space: Space) -> None:
        """Open the study, and run trials."""
        from gptlab.sweeps.search.study import Plan, open_study

        sweep = Path(self.config.hydra.sweep.dir)
        words = space.overrides(space.probes()[0])
        head = self.hydra_context.config_loader.load_sweep_config(self.config, words).head
        monitor, mode = load(head._target_, "head").monitor
        plan = Plan(space, monitor, mode, self.sampler, self.startup_trials, self.seed)
        with open_study(sweep, plan) as study:
            atomic_write(sweep / "multirun.yaml", OmegaConf.to_yaml(self.config))
            self._introduce(study)
            self.run_trials(study)
            self._conclude(study)

    def run_trials(self, study: "SearchStudy") -> None:
        """Run trials until there are enough, or the time is over.

        Unfinished ones come first. A trial that is interrupted is left to the next command.
        """
        end = None if self.seconds is None else monotonic() + self.seconds
        launched: set[int] = set()
        while end is None or monotonic() < end:
            trials = [trial for trial in study.resume() if trial.number not in launched]
            trials = trials or study.ask(self._n_at_once(), n_trials=self.n_trials)
            if trials:
                launched |= {trial.number for trial in trials}
                self._launch(trials, study)
            elif running := study.running_elsewhere():
                self._wait(running)
            else:
                break

    def _introduce(self, study: "SearchStudy") -> None:
        """Print what is searched."""
        plan, n_earlier = study.plan, len(study.trials)
        goal = {"min": "lowest", "max": "highest"}[plan.mode]
        earlier = f", {n_earlier} of them before this command" if n_earlier else ""
        log.info(f"a search for the {goal} {plan.monitor} in {self.n_trials} trials{earlier}")
        log.info("\n".join(plan.space.describe()))
        if n_earlier >= self.n_trials and not study.running_elsewhere():
            log.info("all of them have ended: for more, give a larger hydra.sweeper.n_trials")

    def _launch(self, trials: Sequence["Trial"], study: "SearchStudy") -> None:
        """Run trials, and tell their results; an interrupted one stays unfinished, for the next command.

        A launcher numbers its jobs one after the other.
        """
        for _, group in itertools.groupby(enumerate(trials), key=lambda pair: pair[1].number - pair[0]):
            batch = [trial for _, trial in group]
            self.launcher.launch([trial.overrides for trial in batch], initial_job_idx=batch[0].number)
            records = study.records()
            for number in (trial.number for trial in batch):
                record = records.get(number, {})
                if not study.tell(number, record) and record.get("status") != "interrupted":
                    log.warning(f"trial {number} ended without a result")
                    study.fail(number)

    def _wait(self, running: list[int]) -> None:
        """Wait a moment for trials of other processes, which may die and leave them."""
        if getattr(self, "waits_for", None) != running:
            self.waits_for = running
            log.info(f"waiting for trials that other processes run: {', '.join(map(str, running))}")
        sleep(WAIT_SECONDS)

    def _conclude(self, study: "SearchStudy") -> None:
        """Print why the search ends, unless it has all its trials."""
        n_left = self.n_trials - len(study.trials)
        if n_left <= 0:
            return
        if len(study.trials) == study.plan.space.size:
            log.info(f"every combination of the values has been tried, in {len(study.trials)} trials")
        else:
            time = timedelta(seconds=round(self.seconds or 0))
            log.warning(
                f"the time is up (hydra.sweeper.timeout, {time}) with {n_left} of {self.n_trials} trials left: "
                f"go on with\n  {resume_command(Path(self.config.hydra.sweep.dir))}"
            )

    def _n_at_once(self) -> int:
        """Return the count of trials that are suggested at once.

        A cluster may take all at once, but then none would learn from another.
        """
        n_side_by_side = int(getattr(self.launcher, "n_side_by_side", 1))  # of a launcher of ours
        return self.n_jobs or min(n_side_by_side, math.ceil(self.n_trials / ROUNDS))


def read_seconds(time: str | float | None) -> float | None:
    """Return a time in seconds.

    Args:
        time: seconds, or a text such as 90m, 2h30m or DD:HH:MM:SS.

    Raises:
        UserError: the text is no time.
    """
    if time is None or isinstance(time, int | float):
        return time
    pieces = re.findall(r"(\d+(?:\.\d+)?) *([dhms]) *", time)
    if pieces and "".join(re.split(r"\s+", time)) == "".join(f"{n}{unit}" for n, unit in pieces):
        seconds = sum(float(number) * UNITS[unit] for number, unit in pieces)
    elif re.fullmatch(r"\d+(:\d+){3}", time):
        seconds = sum(int(number) * unit for number, unit in zip(time.split(":"), UNITS.values(), strict=True))
    else:
        seconds = 0.0
    if not seconds:
        raise UserError(
            f"hydra.sweeper.timeout is {time!r}: it must be seconds, or a time such as 90m, 2h30m or DD:HH:MM:SS"
        )
    return seconds
