"""The study of a search: its trials, in a journal in the sweep's folder.

Several processes may share a folder. Each write to the journal is one line, so a process that is killed leaves a whole
study: a trial exists with all its values, or not at all.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from optuna import Study, create_study, load_study
from optuna.samplers import RandomSampler
from optuna.storages.journal import JournalStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from gptlab.errors import UserError
from gptlab.storage.locks import locked
from gptlab.storage.run_folder import JOB_RECORD, is_locked, read_job_record
from gptlab.sweeps.search.journal import JOURNAL, LOCKS, STUDY, is_search, open_journal
from gptlab.sweeps.search.space import Space
from gptlab.sweeps.search.suggestion import Mode, Sampler, direction_of, distributions, suggest

ABOUT = "search"  # the study's attribute that says what is searched
STATES = {"pruned": TrialState.PRUNED, "failed": TrialState.FAIL}  # status of a job's record -> Optuna's state


class Plan(NamedTuple):
    """What decides the values of a search's trials."""

    space: Space
    monitor: str
    mode: Mode
    sampler: Sampler
    startup_trials: int
    seed: int


class Trial(NamedTuple):
    """A trial that this process runs."""

    number: int
    overrides: list[str]


@contextmanager
def open_study(sweep: Path, plan: Plan) -> Iterator["SearchStudy"]:
    """Open the study of a sweep's folder, and create it if there is none.

    At the end, the trials that this process has not told are free for another one.

    Raises:
        UserError: the journal is damaged or another search's, or the folder holds another sweep.
    """
    with ExitStack() as claims:
        yield SearchStudy(sweep, plan, claims)


class SearchStudy:
    """The trials of a search, as this process sees them."""

    def __init__(self, sweep: Path, plan: Plan, claims: ExitStack) -> None:
        self.sweep, self.plan, self.claims = sweep, plan, claims
        self.claimed: dict[int, ExitStack] = {}
        if not is_search(sweep) and any(sweep.glob(f"*/{JOB_RECORD}")):
            raise UserError(f"{sweep} holds a sweep that is not a search: choose another hydra.sweep.dir")
        storage = open_journal(sweep)
        with self._alone():
            about = plan.space.record() | {"monitor": plan.monitor, "mode": plan.mode}
            if not storage.get_all_studies():
                create_study(storage=storage, study_name=STUDY, direction=direction_of(plan.mode))
            self.study = _load(storage, sweep / JOURNAL)
            earlier = self.study.user_attrs.get(ABOUT)
            if earlier is None:
                self.study.set_user_attr(ABOUT, about)
            elif difference := _difference(earlier, about):
                raise UserError(
                    f"{sweep} holds another search: {difference}: repeat its command, or choose another hydra.sweep.dir"
                )

    @property
    def trials(self) -> list[FrozenTrial]:
        """Return all trials, in the order of their numbers."""
        return self.study.get_trials(deepcopy=False)

    def resume(self) -> list[Trial]:
        """Return the unfinished trials that no process runs, and claim them.

        Results that a killed process had no time to tell are told.
        """
        with self._alone():
            left = [trial for trial in self.trials if trial.state == TrialState.RUNNING and self._claim(trial.number)]
            records = self.records()
            for trial in left:
                self._tell(trial.number, records.get(trial.number, {}))
            return [self._trial(trial) for trial in left if trial.number in self.claimed]

    def ask(self, count: int, *, n_trials: int) -> list[Trial]:
        """Create new trials, and claim them.

        Args:
            count: as many trials, if there are values left for them.
            n_trials: of the whole study.
        """
        plan, numbers = self.plan, list[int]()
        with self._alone():
            while len(numbers) < count and len(self.trials) < n_trials:
                values = suggest(
                    plan.space,
                    self.trials,
                    mode=plan.mode,
                    sampler=plan.sampler,
                    startup_trials=plan.startup_trials,
                    seed=plan.seed,
                )
                if values is None:
                    break
                number = len(self.trials)
                self._claim(number)  # first, or another process could take it up
                found = distributions(plan.space)
                self.study.add_trial(create_trial(state=TrialState.RUNNING, params=values, distributions=found))
                numbers.append(number)
            return [self._trial(self.trials[number]) for number in numbers]

    def tell(self, number: int, record: dict[str, Any]) -> bool:
        """Tell the result in a job's record, and give up the claim; return whether the record has one."""
        with self._alone():
            return self._tell(number, record)

    def _tell(self, number: int, record: dict[str, Any]) -> bool:
        status = record.get("status")
        if "value" not in record and status != "failed":
            return False
        state = STATES.get(str(status), TrialState.COMPLETE)
        value = record["value"] if state == TrialState.COMPLETE else None
        self.study.tell(number, value, state=state, skip_if_finished=True)
        self.claimed.pop(number).close()
        return True

    def fail(self, number: int) -> None:
        """Tell that a trial ended without a result."""
        self.tell(number, {"status": "failed"})

    def running_elsewhere(self) -> list[int]:
        """Return the numbers of the trials that other processes run."""
        return [t.number for t in self.trials if t.state == TrialState.RUNNING and t.number not in self.claimed]

    def records(self) -> dict[int, dict[str, Any]]:
        """Return the jobs' records, by number."""
        return {record["job"]: record for _, record in self._jobs()}

    def _jobs(self) -> list[tuple[Path, dict[str, Any]]]:
        folders = sorted(path.parent for path in self.sweep.glob(f"*/{JOB_RECORD}"))
        return [(folder, record) for folder in folders if (record := read_job_record(folder))]

    def _trial(self, trial: FrozenTrial) -> Trial:
        return Trial(trial.number, self.plan.space.overrides(trial.params))

    def _claim(self, number: int) -> bool:
        """Claim a trial for this process; return whether it is free.

        A job may outlive the process that launched it, in a process of its own.
        """
        if number in self.claimed:
            return True
        if any(record["job"] == number and is_locked(folder) for folder, record in self._jobs()):
            return False
        claim = self.claims.enter_context(ExitStack())
        try:
            claim.enter_context(locked(self.sweep / LOCKS / f"trial_{number}", wait=False))
        except TimeoutError:
            return False
        self.claimed[number] = claim
        return True

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes from reading trials and acting on them at the same time."""
        with locked(self.sweep / LOCKS / "study", wait=True):
            yield


def _load(storage: JournalStorage, path: Path) -> Study:
    """Return the one study of a journal.

    Raises:
        UserError: it holds other studies.
    """
    names = [study.study_name for study in storage.get_all_studies()]
    if names != [STUDY]:
        raise UserError(f"{path} holds studies of another program ({names!r:.80}): choose another hydra.sweep.dir")
    return load_study(study_name=STUDY, storage=storage, sampler=RandomSampler())


def _difference(earlier: Any, about: dict[str, Any]) -> str | None:
    """Return what differs between two descriptions of a search, None if nothing does.

    Args:
        earlier: read from the journal, which may be anybody's.
    """
    if earlier == about:
        return None
    if not isinstance(earlier, dict) or not all(isinstance(earlier.get(key), type(about[key])) for key in about):
        return "its journal does not say what it searches"
    there, here = earlier["space"], about["space"]
    for key in dict.fromkeys([*there, *here]):
        if there.get(key) != here.get(key):
            return f"there {key} is {there.get(key, 'fixed')!s:.200}, and here {here.get(key, 'fixed')}"
    if earlier["overrides"] != about["overrides"]:
        return f"there all trials have {_words(earlier['overrides'])!s:.300}, and here {_words(about['overrides'])}"
    goals = [f"the {one['mode']!s:.9} of {one['monitor']!s:.80}" for one in (earlier, about)]
    return f"there {goals[0]} is best, and here {goals[1]}"


def _words(overrides: list[Any]) -> str:
    return " ".join(map(str, overrides)) or "no override"
