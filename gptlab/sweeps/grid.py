"""The grid of a sweep's jobs."""

import itertools

from hydra import compose
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gptlab.config.check import check
from gptlab.config.compose import ConfigError, compose_config
from gptlab.config.hydra_internals import our_hydra, parse_override
from gptlab.config.plain import resolved

MULTIRUN = {"-m", "--multirun"}
OUTPUT_DIR = (
    "{key}= is the folder of a single run, but this is a sweep: give the sweep's folder with hydra.sweep.dir=FOLDER"
)
SWEEP_DIR = (
    "{key}= is for the folders of a sweep, but this is a single run: give its folder with output_dir=FOLDER, or make "
    "it a sweep with -m"
)
RESUME = (
    "resume= resumes a single run, but this is a sweep: to resume a sweep, repeat its command with "
    "hydra.sweep.dir=FOLDER"
)


def sweep_jobs(words: list[str]) -> list[list[str]]:
    """Return the overrides of each job of a sweep.

    They are all combinations of values, as in Hydra's basic sweeper. Ranges of other sweepers, such as interval(0, 1),
    are left out. The list is empty for a single run, or a command with one of Hydra's own flags.
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
        if any(word.startswith("hydra.run.dir=") for word in overrides):
            raise ConfigError([OUTPUT_DIR.format(key="hydra.run.dir")])
        values: dict[str, list[str]] = {}
        for text in [*params, *overrides]:
            values |= _values(text)
    return [list(job) for job in itertools.product(*values.values())]


def check_jobs(jobs: list[list[str]]) -> None:
    """Raise a ConfigError for a sweep that cannot run.

    Problems of only some jobs are reported by those jobs.

    Raises:
        ConfigError: all problems at once.
    """
    problems = []
    with our_hydra():
        for words in jobs:
            if any(word.startswith("output_dir=") for word in words):
                raise ConfigError([OUTPUT_DIR.format(key="output_dir")])
            try:
                cfg = compose("train", words)
            except (HydraException, OmegaConfBaseException, ValueError):
                compose_config("train", words)  # raises the same as a ConfigError
                raise
            if cfg.resume is not None:
                raise ConfigError([RESUME])
            problems.append(_job_problems(cfg))
    if all(problems):
        raise ConfigError(list(dict.fromkeys(itertools.chain(*problems))))


def check_single(words: list[str]) -> None:
    """Raise a ConfigError for a single run with a sweep's folder, which Hydra ignores."""
    keys = [word.partition("=")[0] for word in words if word.startswith("hydra.sweep.")]
    if keys:
        raise ConfigError([SWEEP_DIR.format(key=keys[0])])


def check_job(cfg: DictConfig) -> None:
    """Raise a ConfigError for a job with problems.

    Raises:
        ConfigError: all problems at once.
    """
    if problems := _job_problems(cfg):
        raise ConfigError(problems)


def _params(named: list[str], *, multirun: bool) -> list[str] | None:
    """Return the overrides that a named sweep varies.

    None if it is not a sweep.
    """
    try:
        cfg = compose("train", named, return_hydra_config=True).hydra
    except (HydraException, OmegaConfBaseException):
        return []  # reported when the jobs are composed
    if not multirun and cfg.mode != RunMode.MULTIRUN:
        return None
    return [f"{key}={value}" for key, value in (cfg.sweeper.params or {}).items()]


def _values(text: str) -> dict[str, list[str]]:
    """Return an override's key, and one override per value."""
    try:
        override = parse_override(text)
    except HydraException:
        return {text: [text]}  # reported when it is composed
    key = override.get_key_element()
    if override.is_discrete_sweep():
        return {key: [f"{key}={value}" for value in override.sweep_string_iterator()]}
    return {} if override.is_hydra_override() or override.is_sweep_override() else {key: [text]}


def _job_problems(cfg: DictConfig) -> list[str]:
    """Return the problems of one job."""
    devices = OmegaConf.select(cfg, "trainer.devices")
    if devices in (None, 1, "1") or (isinstance(devices, ListConfig) and len(devices) == 1):
        return check(resolved(cfg))
    problem = (
        f"trainer.devices is {devices}: a job of a sweep takes one device, because the process of each other "
        "device would start the whole sweep: set trainer.devices=1, or train one run at a time"
    )
    return [*check(resolved(cfg)), problem]
