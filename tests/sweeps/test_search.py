"""A search: its space, its suggestions, and its study, which survives being killed."""

import math
import threading
from collections.abc import Callable, Sequence
from functools import partial, partialmethod
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from omegaconf import OmegaConf
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from gptlab.config.compose import ConfigError
from gptlab.errors import UserError
from gptlab.storage.run_folder import write_job_record
from gptlab.sweeps.search.command import check_search
from gptlab.sweeps.search.journal import JOURNAL
from gptlab.sweeps.search.pruning import trial_judge
from gptlab.sweeps.search.space import read_space
from gptlab.sweeps.search.study import Plan, open_study
from gptlab.sweeps.search.suggestion import distributions, suggest
from gptlab.sweeps.search.sweeper import Search, read_seconds

LR = "optim.lr=interval(1e-4,1)"
OPTIM = "optim=adamw,muon"
SPACE = read_space({}, [LR, OPTIM])
PLAN = Plan(SPACE, "val/loss", "min", "tpe", startup_trials=2, seed=0)
STEPS = (5, 10)  # at which a trial validates


PARAMETERS = {
    "a=interval(1e-3,1e-1)": "0.001 to 0.1, on a log scale because it spans a factor of 100",
    "a=interval(1,9)": "1 to 9",
    "a=interval(-1,100)": "-1 to 100",
    "a=tag(linear,interval(1,100))": "1 to 100",
    "a=tag(log,interval(1,2))": "1 to 2, on a log scale",
    "a=int(interval(1,8))": "1 to 8",
    "a=int(interval(1,64))": "1 to 64, on a log scale because it spans a factor of 64",
    "a=range(0,1,0.25)": "0 to 0.75 in steps of 0.25",
    "a=range(1,9,2)": "1 to 7 in steps of 2",
    "a=choice(x,y)": "x, y",
    "a=2,4,2": "2, 4",
    "sampling=glob(*)": "creative, greedy",
}


@pytest.mark.parametrize("word", PARAMETERS)
def test_a_parameter_is_read_from_hydras_grammar(word: str) -> None:
    (line,) = read_space({}, [word]).describe()
    assert line.split(maxsplit=1)[1] == PARAMETERS[word]


def test_the_words_of_a_command_replace_those_of_a_named_search() -> None:
    space = read_space(
        {"a": "interval(0,1)", "b": "1,2"}, ["b=3", "c=range(1,2)", "d=x", "d=y,z", "hydra.verbose=true"]
    )
    assert list(space.parameters) == ["a", "d"]
    assert space.overrides({"a": 0.5, "d": "z"}) == ["a=0.5", "b=3", "c=1", "d=z"]


SPACE_FAULTS = {
    "a=interval(2,1)": "a=interval(2,1): the first end must be less than the second",
    "a=interval(0,inf)": "a=interval(0,inf): the first end must be less than the second, and both finite",
    "a=tag(log,interval(0,1))": "a=tag(log,interval(0,1)): a log scale needs ends above 0",
    "a=tag(lg,interval(1,2))": "a=tag(lg,interval(1,2)): tag lg is unknown (did you mean log?)",
    "a=tag(log,choice(1,2))": "a=tag(log,choice(1,2)): tag(log, ...) is for an interval",
    "a=range(3,1)": "a=range(3,1): it holds no value",
    "a=interval(1,": "'a=interval(1,' cannot be read",
    "a=1": "sweep=search has nothing to search: give a range or several values of a key",
}


@pytest.mark.parametrize("word", SPACE_FAULTS)
def test_a_space_that_cannot_be_searched_is_told(word: str) -> None:
    with pytest.raises(ConfigError) as told:
        read_space({}, [word])
    assert str(told.value).startswith(SPACE_FAULTS[word])


COMMAND_FAULTS = {
    ("sweep=search", "optim.lr=interval(-1,0.1)"): "optim.lr is -1.0: it must be more than 0",
    ("sweep=search", "optim.lr=1e-3,fast"): "optim.lr is 'fast': it must be a number",
    ("sweep=search", "model.n_layers=interval(1,4)"): (
        "model.n_layers is 1.0: it must be a whole number: write int(interval(1,4))\n"
        "model.n_layers is 4.0: it must be a whole number: write int(interval(1,4))"
    ),
    ("sweep=search", "seed=1,2", "hydra.sweeper.n_trial=3", "hydra.sweeper.n_jobs=0", "hydra.sweeper.timeout=soon"): (
        "hydra.sweeper.n_trial is not a key of a search (did you mean n_trials?)\n"
        "hydra.sweeper.timeout is 'soon': it must be seconds, or a time such as 90m, 2h30m or DD:HH:MM:SS\n"
        "hydra.sweeper.n_jobs is 0: it must be at least 1"
    ),
    ("optim.lr=interval(1e-3,1e-1)",): "optim.lr=interval(1e-3,1e-1) is a range for a search: add sweep=search, or lis",
}


@pytest.mark.parametrize("words", COMMAND_FAULTS, ids=" ".join)
def test_a_search_is_checked_before_its_first_trial(words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as told:
        check_search(words)
    assert str(told.value).startswith(COMMAND_FAULTS[words])


def test_a_combination_that_cannot_run_is_left_to_its_trial() -> None:
    assert check_search(["sweep=search", "model.emb_dim=96,128", "model.n_heads=3,4"])
    assert not check_search(["-m", "seed=1,2"])


def test_a_search_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gptlab.sweeps.search.command.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'optuna: install it with pip install "gptlab\[sweep\]"'):
        check_search(["sweep=search", "seed=1,2"])


TIMES = {90: 90, "90m": 5400, "2h30m": 9000, "1d 1s": 86401, "00:00:01:30": 90, "0.5h": 1800}


def test_a_timeout_is_read() -> None:
    assert [read_seconds(time) for time in TIMES] == list(TIMES.values())
    for wrong in ("soon", "5", "1:30", "2h30x", "0s", ""):
        with pytest.raises(UserError, match=r"hydra.sweeper.timeout is .*: it must be seconds"):
            read_seconds(wrong)


def surface(values: dict[str, Any]) -> float:
    """A loss with another best learning rate for each optimizer."""
    best, floor = {"adamw": (-2.5, 0.2), "muon": (-1.7, 0.0)}[values["optim"]]
    return 3 + floor + 0.5 * (math.log10(values["optim.lr"]) - best) ** 2


def complete(values: dict[str, Any], value: float | None) -> FrozenTrial:
    """Return a trial with a result; None failed."""
    state = TrialState.FAIL if value is None else TrialState.COMPLETE
    return create_trial(state=state, value=value, params=values, distributions=distributions(SPACE))


def searched(n_trials: int, objective: Callable[[Any], float | None], *, seed: int, sampler: Any = "tpe") -> list[Any]:
    """Return the trials of a search without a study."""
    trials: list[FrozenTrial] = []
    for _ in range(n_trials):
        values = suggest(SPACE, trials, mode="min", sampler=sampler, startup_trials=4, seed=seed)
        assert values is not None
        trials.append(complete(values, objective(values)))
    return trials


def test_it_finds_better_values_than_chance() -> None:
    """Median of the best value in 16 trials, over 20 seeds."""

    def best(sampler: str) -> float:
        found = [searched(16, surface, seed=seed, sampler=sampler) for seed in range(20)]
        return median(min(trial.value for trial in trials) for trials in found)

    assert best("tpe") - 3 < 0.5 * (best("random") - 3)


def test_the_same_seed_suggests_the_same() -> None:
    first, again, other = (searched(8, surface, seed=seed) for seed in (3, 3, 4))
    assert [trial.params for trial in first] == [trial.params for trial in again]
    assert all(a.params != b.params for a, b in zip(first, other, strict=True))


def test_it_learns_from_trials_that_failed() -> None:
    """Learning rates above 0.1 diverge, a quarter of all."""

    def diverging(values: dict[str, Any]) -> float | None:
        return None if values["optim.lr"] > 0.1 else surface(values)

    found = [searched(14, diverging, seed=seed) for seed in range(8)]
    assert median(sum(trial.state == TrialState.FAIL for trial in trials[6:]) for trials in found) <= 1


def test_no_two_trials_are_the_same_run() -> None:
    space = read_space({}, ["a=1,2", "b=range(0,3)"])
    trials: list[FrozenTrial] = []
    while values := suggest(space, trials, mode="max", sampler="tpe", startup_trials=2, seed=0):
        made = create_trial(value=1.0, params=values, distributions=distributions(space))
        trials.append(made)
    assert len(trials) == 6


class Killed(BaseException):
    """What ends a process in the middle of a line."""


append_logs = JournalFileBackend.append_logs


def append_until(self: Any, journal: Path, fatal: int, n_writes: list[int], logs: Any) -> None:
    """Append to the journal, until a write that kills the process."""
    n_writes[0] += 1
    dies = n_writes[0] == fatal + 1
    if dies and fatal % 3 == 0:
        raise Killed
    append_logs(self, logs)
    if dies and fatal % 3 == 1:
        journal.write_bytes(journal.read_bytes()[:-20])
    if dies:
        raise Killed


class Launcher:
    """Runs trials in this process, which validate twice and end on the surface.

    As a job does, it leaves its records in the sweep's folder.
    """

    def __init__(self, sweep: Path) -> None:
        self.sweep, self.launched = sweep, list[int]()

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> None:
        """Run trials one after the other."""
        for number, words in enumerate(job_overrides, initial_job_idx):
            self.launched.append(number)
            self._run(number, list(words))

    def _run(self, number: int, words: list[str]) -> None:
        folder = self.sweep / f"{number:03}"
        folder.mkdir(exist_ok=True)
        record = {"job": number, "overrides": words, "varies": {}, "status": "running"}
        write_job_record(folder, record)
        values = dict(word.split("=") for word in words)
        value = surface({"optim": values["optim"], "optim.lr": float(values["optim.lr"])})
        pruner = {"pruner": "median", "pruner_startup_trials": 2, "pruner_warmup_steps": 0.25}
        hydra = {"sweep": {"dir": str(self.sweep)}, "job": {"num": number}, "sweeper": pruner}
        judge = trial_judge(OmegaConf.create(hydra))
        assert judge is not None
        pruned = any(judge(step, value + 1 / step, 20) for step in STEPS)
        status = {"status": "pruned" if pruned else "finished", "monitor": "val/loss", "mode": "min", "value": value}
        write_job_record(folder, record | status)


def sweeper(sweep: Path, launcher: Any = None, **changes: Any) -> Search:
    """Return a search without Hydra."""
    settings: dict[str, Any] = {"n_trials": 4, "timeout": None, "seed": 0, "sampler": "tpe", "startup_trials": 2}
    settings |= {"n_jobs": None, "pruner": "median", "pruner_startup_trials": 2, "pruner_warmup_steps": 0, "params": {}}
    search = Search(**settings | changes)
    search.launcher = launcher or Launcher(sweep)
    search.config = OmegaConf.create({"hydra": {"sweep": {"dir": str(sweep)}, "launcher": {}}})
    return search


def run(sweep: Path, launcher: Any = None, **changes: Any) -> list[Any]:
    """Run a search, and return its trials as plain values."""
    with open_study(sweep, PLAN) as study:
        sweeper(sweep, launcher, **changes).run_trials(study)
        return [(t.number, t.state.name, t.params, t.value, t.intermediate_values) for t in study.trials]


@pytest.fixture
def whole(tmp_path: Path) -> list[Any]:
    """Return the trials of a search that nothing interrupted."""
    return run(tmp_path / "whole", n_trials=5)


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_a_search_that_is_killed_goes_on_as_it_would_have(
    every: int, whole: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed at a write of the journal: before it, after it, and in the middle of the line."""
    assert {state for _, state, *_ in whole} == {"COMPLETE", "PRUNED"}
    n_writes = len((tmp_path / "whole" / JOURNAL).read_bytes().splitlines())
    for fatal in range(0, n_writes, every):
        sweep, launcher = tmp_path / str(fatal), Launcher(tmp_path / str(fatal))
        with monkeypatch.context() as patch:
            patch.setattr(JournalFileBackend, "append_logs", partialmethod(append_until, sweep / JOURNAL, fatal, [0]))
            with pytest.raises(Killed):
                run(sweep, n_trials=5)
        assert run(sweep, launcher, n_trials=5) == whole, f"killed at write {fatal}"
        assert launcher.launched == sorted(set(launcher.launched))


def test_the_number_of_trials_is_that_of_the_whole_study(whole: list[Any], tmp_path: Path) -> None:
    launcher = Launcher(tmp_path)
    assert run(tmp_path, launcher, n_trials=3) == whole[:3]
    assert run(tmp_path, launcher, n_trials=5) == whole
    assert run(tmp_path, launcher, n_trials=4) == whole
    assert launcher.launched == [0, 1, 2, 3, 4]


def test_two_processes_share_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each trial runs once, in one of them; threads hold the same locks as processes."""
    monkeypatch.setattr("gptlab.sweeps.search.sweeper.WAIT_SECONDS", 0.05)
    launchers = [Launcher(tmp_path), Launcher(tmp_path)]
    threads = [threading.Thread(target=partial(run, tmp_path, launcher, n_trials=12)) for launcher in launchers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = run(tmp_path, n_trials=12)
    assert [number for number, *_ in found] == list(range(12))
    assert sorted(launchers[0].launched + launchers[1].launched) == list(range(12))
    assert {state for _, state, *_ in found} <= {"COMPLETE", "PRUNED"}


def test_a_trial_of_another_process_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When that process dies, the trial is taken up."""
    with open_study(tmp_path, PLAN) as study:
        (trial,) = study.ask(1, n_trials=1)
        with open_study(tmp_path, PLAN) as other:
            assert other.resume() == []
            assert other.ask(1, n_trials=1) == []
            assert other.running_elsewhere() == [trial.number]
    with open_study(tmp_path, PLAN) as other:
        assert other.resume() == [trial]


class Fails(Launcher):
    """A launcher whose trials end in another way than they should."""

    def __init__(self, sweep: Path, records: dict[int, dict[str, Any] | None]) -> None:
        super().__init__(sweep)
        self.records = records

    def _run(self, number: int, words: list[str]) -> None:
        if number not in self.records:
            super()._run(number, words)
        elif record := self.records[number]:
            (self.sweep / f"{number:03}").mkdir(exist_ok=True)
            write_job_record(self.sweep / f"{number:03}", {"job": number, "overrides": words, "varies": {}} | record)


def test_trials_that_fail_are_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One with an error, one whose process died without a record, and one that was interrupted."""
    ends = {0: {"status": "failed", "error": "x"}, 1: {"status": "running"}, 2: {"status": "interrupted"}, 3: None}
    found = run(tmp_path, Fails(tmp_path, ends), n_trials=6)
    assert [state for _, state, *_ in found][:4] == ["FAIL", "FAIL", "RUNNING", "FAIL"]
    assert "trial 1 ended without a result" in caplog.text
    launcher = Launcher(tmp_path)
    again = run(tmp_path, launcher, n_trials=6)
    assert launcher.launched == [2]
    assert [state for _, state, *_ in again][:4] == ["FAIL", "FAIL", again[2][1], "FAIL"]
    assert again[2][1] in ("COMPLETE", "PRUNED")


def test_trials_at_once_are_one_batch(tmp_path: Path) -> None:
    batches: list[int] = []

    class Batches(Launcher):
        n_side_by_side = 1

        def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> None:
            batches.append(len(job_overrides))
            super().launch(job_overrides, initial_job_idx)

    run(tmp_path / "a", Batches(tmp_path / "a"), n_trials=5, n_jobs=2)
    launcher = Batches(tmp_path / "b")
    launcher.n_side_by_side = 3
    run(tmp_path / "b", launcher, n_trials=5)
    assert batches == [2, 2, 1, 2, 2, 1]


def test_the_time_is_up_between_two_trials(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with open_study(tmp_path, PLAN) as study:
        search = sweeper(tmp_path, n_trials=9, timeout=1e-9)
        search.run_trials(study)
        search._conclude(study)
    assert "the time is up (hydra.sweeper.timeout, 0:00:00) with 9 of 9 trials left: go on with" in caplog.text


def other(**changes: Any) -> Plan:
    """Return the plan of another search."""
    return PLAN._replace(**changes)


WRONG = {
    "there optim.lr is 0.0001 to 1, on a log scale": other(space=read_space({}, ["optim.lr=interval(0,1)", OPTIM])),
    "there seed is fixed, and here 1, 2": other(space=read_space({}, [LR, OPTIM, "seed=1,2"])),
    "there all trials have no override, and here seed=1": other(space=read_space({}, [LR, OPTIM, "seed=1"])),
    "there the min of val/loss is best, and here the max of val/accuracy": other(monitor="val/accuracy", mode="max"),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_another_search_does_not_go_into_the_same_folder(sentence: str, tmp_path: Path) -> None:
    with open_study(tmp_path, PLAN):
        pass
    with (
        pytest.raises(UserError, match="repeat its command, or choose another") as told,
        open_study(tmp_path, WRONG[sentence]),
    ):
        pass
    assert sentence in str(told.value)


def test_a_damaged_journal_and_another_sweep_are_refused(tmp_path: Path) -> None:
    run(tmp_path / "damaged", n_trials=2)
    journal = tmp_path / "damaged" / JOURNAL
    lines = journal.read_text(encoding="utf-8").splitlines(keepends=True)
    for place, line in ((0, "{}\n"), (3, '{"op_code": 5}\n'), (2, "not json\n"), (1, '["a"]\n')):
        journal.write_text("".join([*lines[:place], line, *lines[place + 1 :]]), encoding="utf-8")
        with pytest.raises(UserError, match=r"is damaged|holds studies of another program"):
            run(tmp_path / "damaged")
    (tmp_path / "grid" / "0").mkdir(parents=True)
    write_job_record(tmp_path / "grid" / "0", {"job": 0, "overrides": [], "varies": {}, "status": "finished"})
    with pytest.raises(UserError, match="holds a sweep that is not a search: choose"):
        run(tmp_path / "grid")
