"""The grid of a sweep's jobs."""

import itertools
import math
from functools import cache

from hydra import compose
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from gptlab.config.compose import HYDRA_ERRORS, ConfigError, compose_config
from gptlab.config.hydra_internals import our_hydra, parse_override
from gptlab.errors import UserError
from gptlab.sweeps.leaderboard.sweep_record import check_options
from gptlab.sweeps.problems import OUTPUT_DIR, GridComposer, job_problems, tell_problems

MULTIRUN = {"-m", "--multirun"}
SWEEP_DIR = (
    "{key}= is for the folders of a sweep, but this is a single run: give its folder with output_dir=FOLDER, or make "
    "it a sweep with -m"
)
LAUNCHER = "{key}= is for the jobs of a sweep, but this is a single run: leave it out, or make it a sweep with -m"
MAX_CHECKED = 2000  # combinations; of a larger grid each value is checked, and the others when their turn comes


def sweep_jobs(words: list[str]) -> list[list[str]]:
    """Return the overrides of each job of a sweep.

    They are all combinations of values, as in Hydra's basic sweeper; of more than `MAX_CHECKED`, each value with the
    first of every other key. Ranges of other sweepers, such as interval(0, 1), are left out. The list is empty for a
    single run, or a command with one of Hydra's own flags.

    Raises:
        ConfigError: Hydra's own keys are wrong.
    """
    flags = {word for word in words if word.startswith("-")}
    overrides = [word for word in words if word not in flags]
    named = [word for word in overrides if word.startswith(("sweep=", "hydra.mode=", "hydra.sweeper."))]
    if flags - MULTIRUN or not (flags or named):
        return []
    settings = hydra_settings(overrides)
    if not flags and settings.mode != RunMode.MULTIRUN:
        return []
    if any(word.startswith("hydra.run.dir=") for word in overrides):
        raise ConfigError([OUTPUT_DIR.format(key="hydra.run.dir")])
    with our_hydra():
        params = [f"{key}={value}" for key, value in (settings.sweeper.get("params") or {}).items()]
        values: dict[str, list[str]] = {}
        for text in [*params, *overrides]:
            values |= _values(text)
    if math.prod(map(len, values.values())) <= MAX_CHECKED:
        return [list(job) for job in itertools.product(*values.values())]
    first = {key: texts[0] for key, texts in values.items()}
    return [
        list((first | {key: text}).values())
        for number, (key, texts) in enumerate(values.items())
        for text in (texts if number == 0 else texts[1:])
    ]


def skips_invalid(words: list[str]) -> bool:
    """Return whether the jobs of a sweep that cannot run are left out, as `hydra.callbacks.sweep.skip_invalid` says."""
    callback = OmegaConf.select(hydra_settings(words), "callbacks.sweep")
    return callback is not None and bool(callback.skip_invalid)


def check_leaderboard(words: list[str]) -> None:
    """Raise a ConfigError for options that the leaderboard does not have; Hydra would print a traceback.

    Raises:
        ConfigError: the first wrong one.
    """
    prefix = "hydra.callbacks.leaderboard."
    for word in words:
        if word.lstrip("+").startswith(prefix):
            override = parse_override(word)
            try:
                check_options({override.key_or_group.removeprefix(prefix): override.value()})
            except UserError as error:
                raise ConfigError([str(error)]) from error


def check_jobs(jobs: list[list[str]], *, skip_invalid: bool = False) -> None:
    """Raise a ConfigError for a sweep with a job that cannot run.

    Args:
        skip_invalid: whether jobs that cannot run are left to fail when their turn comes, while others can.

    Raises:
        ConfigError: all problems at once, each with the jobs that have it.
    """
    with our_hydra():
        composer = GridComposer()
        problems = [composer.problems(words) for words in jobs]
    if all(problems) or (any(problems) and not skip_invalid):
        raise ConfigError(list(tell_problems(jobs, problems)))


def check_single(words: list[str]) -> None:
    """Raise a ConfigError for a single run with a sweep's folder or launcher, which Hydra ignores."""
    sweeps = ("hydra.sweep.", "hydra/launcher", "hydra/sweeper")
    keys = [word.partition("=")[0] for word in words if word.startswith(sweeps)]
    if keys:
        raise ConfigError([(SWEEP_DIR if keys[0].startswith("hydra.") else LAUNCHER).format(key=keys[0])])


def check_job(cfg: DictConfig) -> None:
    """Raise a ConfigError for a job with problems.

    Raises:
        ConfigError: all problems at once.
    """
    if problems := job_problems(cfg):
        raise ConfigError(problems)


def hydra_settings(words: list[str]) -> DictConfig:
    """Return Hydra's own settings for a command.

    Raises:
        ConfigError: they are wrong.
    """
    with our_hydra():
        about = ("sweep=", "hydra.", "hydra/", "+hydra", "~hydra")  # the words that can change them
        return _compose_settings(tuple(word for word in words if word.startswith(about)))


@cache
def _compose_settings(words: tuple[str, ...]) -> DictConfig:
    try:
        return compose("train", list(words), return_hydra_config=True).hydra
    except HYDRA_ERRORS:
        compose_config("train", list(words))  # raises the same as a ConfigError
        raise


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
