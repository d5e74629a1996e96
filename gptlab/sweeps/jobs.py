"""A sweep: one command, several runs. What its jobs are, and one of them from its beginning to its end.

Jobs may run in processes of their own: what they know of each other, and the leaderboard of them, stands in files.
"""

import gc
import itertools
import logging
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml  # type: ignore[import-untyped]
from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gptlab.config.admission import load
from gptlab.config.check import check
from gptlab.config.compose import ConfigError, compose_config, our_hydra
from gptlab.config.plain import resolved
from gptlab.errors import UserError
from gptlab.storage.run_folder import JOB_RECORD, read_job_record, write_job_record

log = logging.getLogger(__name__)

MULTIRUN = {"-m", "--multirun"}
KEPT = {".hydra", "train.log", ".lock", JOB_RECORD}  # what a job that begins again has already written
WORST = 1.0e9
OUTPUT_DIR = (
    "output_dir= is the folder of one run, and this is a sweep of several: say where theirs are to lie with "
    "hydra.sweep.dir=FOLDER"
)
RESUME = (
    "resume= goes on with one run, and this is a sweep of several: to go on with a sweep, give its own command again, "
    "with hydra.sweep.dir=FOLDER"
)


class Outcome(NamedTuple):
    """What the training of one job came to."""

    summary: dict[str, Any]  # as in summary.json
    monitor: str  # the head's own metric ...
    mode: Literal["min", "max"]  # ... and which end of it is the better one

    @property
    def value(self) -> float:
        """The best value of the monitored metric; the last where nobody watched for the best."""
        return float(self.summary["best"].get(self.monitor, self.summary["val"][self.monitor]))


def sweep_jobs(words: list[str]) -> list[list[str]]:
    """The overrides of each job that a command starts; none where it is one run, or one of Hydra's own flags.

    Every value of a key meets every one of the others, as in Hydra's own sweeper. What another sweeper draws from, such
    as interval(0, 1), is left out.
    """
    flags = {word for word in words if word.startswith("-")}
    overrides = [word for word in words if word not in flags]
    named = [word for word in overrides if word.startswith(("sweep=", "hydra.mode=", "hydra.sweeper."))]
    if flags - MULTIRUN or not (flags or named):
        return []
    with our_hydra():
        params = _params(named, multirun=bool(flags))
        if params is None:
            return []
        parser = OverridesParser.create(GlobalHydra.instance().config_loader())  # glob(*) looks into the groups
        values: dict[str, list[str]] = {}
        for text in [*params, *overrides]:
            values |= _values(parser, text)
    return [list(job) for job in itertools.product(*values.values())]


def check_jobs(jobs: list[list[str]]) -> None:
    """Tells what no job can escape, and what keeps Hydra from starting any; the rest is left to the job that has it.

    Raises:
        ConfigError: with all of it at once.
    """
    problems = []
    with our_hydra():
        for words in jobs:
            if any(word.startswith("output_dir=") for word in words):
                raise ConfigError([OUTPUT_DIR])
            try:
                cfg = compose("train", words)
            except (HydraException, OmegaConfBaseException, ValueError):
                compose_config("train", words)  # tells it in our words
                raise
            if cfg.resume is not None:
                raise ConfigError([RESUME])
            problems.append(_problems(cfg))
    if all(problems):
        raise ConfigError(list(dict.fromkeys(itertools.chain(*problems))))


def check_job(cfg: DictConfig) -> None:
    """A ConfigError with everything that is wrong with one job."""
    if problems := _problems(cfg):
        raise ConfigError(problems)


def run_job(cfg: DictConfig, train: Callable[[DictConfig], Outcome]) -> float:
    """One job, in the folder that Hydra gave it; skipped where it was finished before, gone on with where it was begun.

    Args:
        train: a SystemExit of its with code 1 is a mistake that it has told, any other is the end of the sweep.

    Returns:
        The job's objective. A failed one has WORST: a NaN would end an Optuna study.

    Raises:
        UserError: the folder holds another job, or a process is at work in it.
    """
    job = HydraConfig.get()
    sweep, overrides = Path(job.sweep.dir), list(job.overrides.task)
    folder = sweep / str(job.sweep.subdir)
    if not _is_to_do(folder, overrides):
        return float(read_job_record(folder)["value"])
    given = {key: value for key, _, value in (word.lstrip("+~").partition("=") for word in overrides)}
    varies = {key: given[key] for key in _swept_keys(sweep) if key in given}
    record: dict[str, Any] = {"job": job.job.num, "status": "running", "overrides": overrides, "varies": varies}
    cfg.output_dir = str(folder)
    write_job_record(folder, record)
    try:
        if done := _done(cfg, folder):
            record |= _found(done)
        else:
            cfg.resume = _beginning(folder)
            record |= _attempt(cfg, train)
    except BaseException:
        write_job_record(folder, record | {"status": "interrupted"})
        raise
    _free_memory()
    write_job_record(folder, record)
    if "value" not in record:
        return _worst(job)
    log.info(f"job {record['job']}: {record['monitor']} {record['value']:.4g} at its best\n")
    return record["value"]


def _params(named: list[str], *, multirun: bool) -> list[str] | None:
    """What a named sweep varies, as overrides; None where it is no sweep at all."""
    try:
        cfg = compose("train", named, return_hydra_config=True).hydra
    except (HydraException, OmegaConfBaseException):
        return []  # told when the jobs are composed
    if not multirun and cfg.mode != RunMode.MULTIRUN:
        return None
    return [f"{key}={value}" for key, value in (cfg.sweeper.params or {}).items()]


def _values(parser: OverridesParser, text: str) -> dict[str, list[str]]:
    """An override's key and, as overrides, its values."""
    try:
        override = parser.parse_overrides([text])[0]
    except HydraException:
        return {text: [text]}  # told when it is composed
    key = override.get_key_element()
    if override.is_discrete_sweep():
        return {key: [f"{key}={value}" for value in override.sweep_string_iterator()]}
    return {} if override.is_hydra_override() or override.is_sweep_override() else {key: [text]}


def _swept_keys(sweep: Path) -> list[str]:
    """The keys that differ between the jobs, from the file in which Hydra notes the command."""
    path = sweep / "multirun.yaml"
    if not path.is_file():
        return []
    noted: Any = yaml.safe_load(path.read_text(encoding="utf-8"))["hydra"]  # data: nothing in it is resolved
    params = noted["sweeper"].get("params") or {}
    words = [*(f"{key}={value}" for key, value in params.items()), *noted["overrides"]["task"]]
    parsed = OverridesParser.create().parse_overrides(words)
    return list(dict.fromkeys(override.key_or_group for override in parsed if override.is_sweep_override()))


def _problems(cfg: DictConfig) -> list[str]:
    """What is wrong with one job of a sweep."""
    devices = OmegaConf.select(cfg, "trainer.devices")
    if devices in (None, 1, "1") or (isinstance(devices, ListConfig) and len(devices) == 1):
        return check(resolved(cfg))
    problem = (
        f"trainer.devices is {devices}: a job of a sweep takes one device, for the processes of the others would each "
        "start the whole sweep; set trainer.devices=1, or train one run at a time"
    )
    return [*check(resolved(cfg)), problem]


def _is_to_do(folder: Path, overrides: list[str]) -> bool:
    """Whether there is anything left to do.

    Raises:
        UserError: the folder is not this job's.
    """
    from rich import get_console

    from gptlab.storage.run_folder import is_locked

    before = read_job_record(folder)
    if not before and (folder / "checkpoints").exists():
        raise UserError(f"{folder} holds a run that is no job of a sweep: give hydra.sweep.dir another folder")
    if before and sorted(before["overrides"]) != sorted(overrides):
        raise UserError(
            f"{folder} holds another job ({' '.join(before['overrides'])}): give hydra.sweep.dir another folder, or "
            "give the command of the sweep that is in it"
        )
    if "value" in before:  # said here and not logged: a finished job's files stay as they are
        get_console().print(f"{folder} is finished already", markup=False, highlight=False, soft_wrap=True)
        return False
    if is_locked(folder):
        raise UserError(f"{folder} is being trained by another process: wait for it, or stop it first")
    return True


def _beginning(folder: Path) -> str | None:
    """The checkpoint to go on from; without a whole one, what an attempt has left behind is cleared away."""
    from gptlab.storage.run_folder import find_last

    try:
        return str(find_last(folder))
    except FileNotFoundError:
        pass
    except ValueError as error:
        log.warning(f"{error}\nthe job begins anew")
    for path in folder.iterdir():
        if path.name not in KEPT:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return None


def _done(cfg: DictConfig, folder: Path) -> Outcome | None:
    """What the job came to where it was finished and not noted: by resume=, or just before the process was killed."""
    from gptlab.storage.run_folder import FINISHED, read_summary

    summary = read_summary(folder)
    if summary.get("status") not in FINISHED:
        return None
    return Outcome(summary, *load(cfg.head._target_, "head").monitor)


def _attempt(cfg: DictConfig, train: Callable[[DictConfig], Outcome]) -> dict[str, Any]:
    """Trains; what the record is to say of it."""
    try:
        return _found(train(cfg))
    except SystemExit as end:
        if end.code != 1:
            raise
        return {"status": "failed", "error": str(end.__context__)}
    except Exception as error:  # a fault of ours, or no memory: the other jobs may still go well
        log.exception("the job failed")
        return {"status": "failed", "error": f"{type(error).__name__}: {error}"}


def _found(outcome: Outcome) -> dict[str, Any]:
    name, value = outcome.monitor, outcome.value
    if not math.isfinite(value):
        return {"status": "failed", "error": f"{name} is {value} at its best: lower optim.lr"}
    return {"status": outcome.summary["status"], "monitor": name, "mode": outcome.mode, "value": value}


def _worst(job: Any) -> float:
    """An objective worse than any, in the direction of the sweeper that reads it."""
    return -WORST if str(OmegaConf.select(job, "sweeper.direction")) == "maximize" else WORST


def _free_memory() -> None:
    """Lets go of the last job: the next one runs in the same process."""
    gc.collect()  # a trainer, its module and its callbacks refer to each other
    if "torch" in sys.modules:
        sys.modules["torch"].cuda.empty_cache()
    if "torch._dynamo" in sys.modules:
        sys.modules["torch._dynamo"].reset()
