"""A sweep's jobs and their problems."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from gptlab.config.compose import ConfigError
from gptlab.config.hydra_internals import our_hydra
from gptlab.config.resume import resolve_resume
from gptlab.errors import UserError
from gptlab.storage.run_folder import read_job_record, write_job_record
from gptlab.sweeps.grid import check_jobs, skips_invalid, sweep_jobs
from gptlab.sweeps.jobs import WORST_VALUE, Outcome, run_sweep_job
from gptlab.sweeps.problems import tell_problems

JOBS = {
    ("-m", "a=1,2", "b=x,y"): [["a=1", "b=x"], ["a=1", "b=y"], ["a=2", "b=x"], ["a=2", "b=y"]],
    ("a=1,2", "--multirun", "c=3"): [["a=1", "c=3"], ["a=2", "c=3"]],
    ("-m", "a=1", "a=2,3", "~b"): [["a=2", "~b"], ["a=3", "~b"]],
    ("-m", "a=range(0,3)", "b=[1,2]"): [["a=0", "b=[1,2]"], ["a=1", "b=[1,2]"], ["a=2", "b=[1,2]"]],
    ("-m", "sampling=glob(g*)", "hydra.sweep.dir=x"): [["sampling=greedy"]],
    ("-m", "a=interval(0,1)", "b=1"): [["b=1"]],
    ("sweep=seeds", "a=1"): [[f"seed={seed}", "sweep=seeds", "a=1"] for seed in (1, 2, 3)],
    ("sweep=seeds", "seed=7,8"): [["seed=7", "sweep=seeds"], ["seed=8", "sweep=seeds"]],
    ("a=1",): [],
    ("-m", "a=1,2", "--cfg"): [],
}


@pytest.mark.parametrize("words", JOBS, ids=" ".join)
def test_the_jobs_of_a_command(words: tuple[str, ...]) -> None:
    assert sweep_jobs(list(words)) == JOBS[words]


def test_a_users_configuration_may_set_sweep_mode(tmp_path: Path) -> None:
    assert resolve_resume(["model=tiny"]).whole.hydra.mode is None
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nhydra:\n  mode: MULTIRUN\n")
    command = resolve_resume([f"hydra.searchpath=[file://{tmp_path}]", "experiment=mine"])
    assert command.whole.hydra.mode == RunMode.MULTIRUN


TOLD = {
    ("optim.lrr=1,2",): "optim.lrr is not a key (did you mean optim.lr?)",
    ("seed=1,2", "model.n_layer=3"): "model.n_layer is not a key (did you mean model.n_layers?)",
    ("optim.lr=-1", "seed=1,2"): "optim.lr is -1: it must be more than 0",
    ("optim.lr=fast,slow",): (
        "job 0, with optim.lr=fast: optim.lr is 'fast': it must be a number\n"
        "job 1, with optim.lr=slow: optim.lr is 'slow': it must be a number"
    ),
    ("seed=1,abc",): (
        "job 1, with seed=abc: seed is 'abc': it must be a whole number\n"
        "no job was started: leave these values out, or add hydra.callbacks.sweep.skip_invalid=true to train only the "
        "other job"
    ),
    ("model.n_heads=2,3,5", "model.emb_dim=64", "seed=1,2"): (
        "2 of 6 jobs, with model.n_heads=3: model.emb_dim is 64, not a multiple of model.n_heads, 3: change one, or "
        "give model.head_dim\n2 of 6 jobs, with model.n_heads=5: "
    ),
    ("model.n_heads=3,4", "model.emb_dim=66,64"): (
        "job 1, with model.n_heads=3 and model.emb_dim=64: model.emb_dim is 64, not a multiple of model.n_heads, 3"
    ),
    ("trainer.devices=1,2",): "job 1, with trainer.devices=2: trainer.devices is 2: a job of a sweep takes one device",
    ("nonsense", "seed=1,2"): "'nonsense' cannot be read: write key=value",
    ("model=tiny,tinny",): "job 1, with model=tinny: model=tinny: there is no such configuration (did you mean tiny?)",
    ("resume=auto", "seed=1,2"): "resume= resumes a single run, but this is a sweep",
    ("output_dir=x", "seed=1,2"): "output_dir= is the folder of a single run, but this is a sweep",
    ("trainer.devices=2", "seed=1,2"): "trainer.devices is 2: a job of a sweep takes one device",
}


@pytest.mark.parametrize("words", TOLD, ids=" ".join)
def test_problems_of_all_jobs_are_reported_once(words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as told:
        check_jobs(sweep_jobs(["-m", *words]), skip_invalid=False)
    assert str(told.value).startswith(TOLD[words])
    assert str(told.value).count(TOLD[words]) == 1


def test_jobs_that_cannot_run_are_skipped_if_the_user_says_so() -> None:
    words = ["-m", "model.n_heads=2,3"]
    assert not skips_invalid(words)
    assert skips_invalid([*words, "hydra.callbacks.sweep.skip_invalid=true"])
    check_jobs(sweep_jobs(words), skip_invalid=True)
    with pytest.raises(ConfigError, match="not a multiple"):
        check_jobs(sweep_jobs(["-m", "model.n_heads=3,5"]), skip_invalid=True)


def test_a_value_that_cannot_be_told_by_one_key_is_told_by_its_jobs() -> None:
    jobs = [[f"a={a}", f"b={b}", "c=1"] for a in "123" for b in "123"]
    lines = list(tell_problems(jobs, [["odd"] if a == b else [] for a in "123" for b in "123"]))
    assert lines[0] == "3 of 9 jobs (a=1 b=1; a=2 b=2; a=3 b=3): odd"
    assert lines[1].endswith("to train only the other 6 jobs")


def test_a_job_composes_to_the_same_as_hydra_does() -> None:
    """The grid's check changes a copy of a configuration that is composed once."""
    jobs = sweep_jobs(["-m", "model=tiny,mini", "optim.lr=1e-3,2e-3", "data.batch_size=2", "~callbacks.samples"])
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gptlab.sweeps.problems.job_problems", lambda cfg: seen.append(cfg) or [])
        check_jobs(jobs, skip_invalid=False)
    with our_hydra():
        assert seen == [compose("train", job) for job in jobs]


def test_each_value_of_a_grid_too_large_to_compose_is_checked() -> None:
    words = ["-m", *(f"{key}=range(10)" for key in "abcd"), "e=1"]
    jobs = sweep_jobs(words)
    assert len(jobs) == 10 + 3 * 9
    assert {word for job in jobs for word in job} == {
        "e=1",
        *(f"{key}={value}" for key in "abcd" for value in range(10)),
    }


UNKNOWN = {
    "hydra/launcher=joblob": "(did you mean joblib?); there are basic, joblib, submitit_local, submitit_slurm",
    "hydra/launcher=slurm": "write hydra/launcher=submitit_slurm",
    "hydra/launcher=loky": "write hydra/launcher=joblib",
    "hydra/sweeper=optuna": "write sweep=search",
    "hydra.sweep.dri=x": "Key 'dri' not in 'SweepDir'",
    "hydra.launcher.n_jobs=2": "Key 'n_jobs' not in 'BasicLauncherConf'",
}


@pytest.mark.parametrize("word", UNKNOWN)
def test_an_unknown_launcher_or_key_of_hydras_is_told_before_a_sweep(word: str) -> None:
    with pytest.raises(ConfigError) as told:
        sweep_jobs(["-m", "seed=1,2", word])
    assert UNKNOWN[word] in str(told.value)


@pytest.mark.parametrize("name", ["lr", "seeds"])
def test_a_named_sweep_varies_the_default_run(name: str) -> None:
    jobs = sweep_jobs([f"sweep={name}"])
    assert len(jobs) > 2
    check_jobs(jobs, skip_invalid=False)


@pytest.fixture
def hydra_job(tmp_path: Path) -> Iterator[Callable[..., tuple[DictConfig, Path]]]:
    """Return a sweep job's configuration and folder, with Hydra set up."""
    before = HydraConfig.instance().cfg

    def start(number: int, *overrides: str, direction: str = "minimize") -> tuple[DictConfig, Path]:
        job = {"num": number}
        sweep = {"dir": str(tmp_path), "subdir": number}
        node = {"job": job, "sweep": sweep, "sweeper": {"direction": direction}, "overrides": {"task": list(overrides)}}
        HydraConfig.instance().cfg = OmegaConf.create({"hydra": node})
        (tmp_path / str(number)).mkdir(exist_ok=True)
        return OmegaConf.create({"output_dir": None, "resume": None}), tmp_path / str(number)

    yield start
    HydraConfig.instance().cfg = before


def came_to(value: float) -> Callable[[DictConfig], Outcome]:
    """Return a training function with this result."""
    return lambda cfg: Outcome({"status": "finished", "best": {}, "val": {"val/loss": value}}, "val/loss", "min")


def test_a_failed_job_returns_the_worst_value(hydra_job: Callable[..., Any]) -> None:
    cfg, folder = hydra_job(0, "a=1")
    assert run_sweep_job(cfg, came_to(math.nan)) == WORST_VALUE
    assert read_job_record(folder)["error"].startswith("val/loss is nan")
    cfg, folder = hydra_job(1, "a=1", direction="maximize")
    assert run_sweep_job(cfg, came_to(math.inf)) == -WORST_VALUE
    cfg, folder = hydra_job(2, "a=1")
    assert run_sweep_job(cfg, came_to(0.25)) == 0.25
    assert read_job_record(folder)["value"] == 0.25


def test_the_leftovers_of_a_killed_attempt_are_deleted(hydra_job: Callable[..., Any]) -> None:
    cfg, folder = hydra_job(0, "a=1")
    write_job_record(folder, {"job": 0, "status": "running", "overrides": ["a=1"], "varies": {}})
    for name in ("checkpoints/best.ckpt", "events.out.tfevents.1", ".hydra/config.yaml", "train.log"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    run_sweep_job(cfg, came_to(1.0))
    there = {path.name for path in folder.iterdir()}
    assert there >= {".hydra", "train.log", "status.json"}
    assert not there & {"checkpoints", "events.out.tfevents.1"}
    assert cfg.resume is None


def test_a_refused_job_leaves_only_its_record(hydra_job: Callable[..., Any]) -> None:
    def refuse(cfg: DictConfig) -> Outcome:
        (Path(cfg.output_dir) / ".hydra").mkdir()
        (Path(cfg.output_dir) / "train.log").touch()
        try:
            raise UserError("no such column")
        except UserError:
            raise SystemExit(1) from None

    cfg, folder = hydra_job(0, "a=1")
    assert run_sweep_job(cfg, refuse) == WORST_VALUE
    assert read_job_record(folder)["error"] == "no such column"
    assert [path.name for path in folder.iterdir()] == ["status.json"]


def test_a_run_outside_the_sweep_is_not_overwritten(hydra_job: Callable[..., Any]) -> None:
    cfg, folder = hydra_job(0, "a=1")
    (folder / "checkpoints").mkdir()
    with pytest.raises(ValueError, match="holds a run that is not a job of a sweep"):
        run_sweep_job(cfg, came_to(1.0))
    assert not read_job_record(folder)


def test_a_job_finished_by_resume_is_recorded_and_not_trained(hydra_job: Callable[..., Any]) -> None:
    cfg, folder = hydra_job(0, "a=1")
    cfg.head = {"_target_": "gptlab.heads.lm.LMHead"}
    write_job_record(folder, {"job": 0, "status": "interrupted", "overrides": ["a=1"], "varies": {}})
    summary = {"status": "finished", "best": {"val/loss": 0.5}, "val": {"val/loss": 0.75}}
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    assert run_sweep_job(cfg, came_to(9.0)) == 0.5
    assert read_job_record(folder)["status"] == "finished"


def test_the_start_is_no_result_of_training(hydra_job: Callable[..., Any]) -> None:
    """The weights at the start were better, and no validation after them gave a number: the job has failed."""
    cfg, folder = hydra_job(0, "a=1")
    start = {"best": {"val/loss": 0.5}, "best_step": 0, "best_trained": {}, "val": {"val/loss": math.nan}}
    run_sweep_job(cfg, lambda cfg: Outcome({"status": "finished", **start}, "val/loss", "min"))
    assert read_job_record(folder)["error"].startswith("val/loss is nan")
    assert Outcome(start | {"best_trained": {"val/loss": 0.75}}, "val/loss", "min").value == 0.75
