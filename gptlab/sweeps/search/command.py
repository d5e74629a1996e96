"""The check of a search's command, before its first trial and before a folder exists."""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from hydra import compose
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gptlab.config.compose import ConfigError
from gptlab.config.hydra_internals import IntervalSweep, our_hydra, parse_override
from gptlab.config.signature import arguments
from gptlab.config.value_types import wanted
from gptlab.errors import UserError, nearest
from gptlab.sweeps.grid import MULTIRUN
from gptlab.sweeps.problems import GridComposer
from gptlab.sweeps.search.space import Number, Space, read_space
from gptlab.sweeps.search.sweeper import read_seconds

SEARCH = "gptlab.sweeps.search.sweeper.Search"
RANGE_ALONE = "{text} is a range for a search: add sweep=search, or list the values: {key}={ends}"
MISSING = 'sweep=search needs the package optuna: install it with pip install "gptlab[sweep]"'


def check_search(words: Sequence[str]) -> bool:
    """Check a command; return whether it is a search.

    Both ends of each range and each choice are checked before the first trial.

    Args:
        words: as Hydra gets them.

    Raises:
        ConfigError: all problems at once, also of a command that takes a search's words and is none.
    """
    overrides = [word for word in words if not word.startswith("-")]
    sweeper = _sweeper(overrides)
    if sweeper == {}:
        return False
    if sweeper is None or sweeper["_target_"] != SEARCH:
        if alone := [sentence for word in overrides if (sentence := _answer_range(word))]:
            raise ConfigError(alone)
        return False
    if {word for word in words if word.startswith("-")} - MULTIRUN:
        return False  # a flag of Hydra's own, such as --cfg
    if find_spec("optuna") is None:
        raise ConfigError([MISSING])
    if problems := [*_unknown_settings(overrides), *_settings_problems(sweeper)]:
        raise ConfigError(problems)
    _check_space(read_space(sweeper["params"], overrides))
    return True


def _sweeper(overrides: Sequence[str]) -> dict[str, Any] | None:
    """Return the settings of the command's sweeper, None if no word is about one, {} if the words are wrong."""
    named = [word for word in overrides if word.startswith(("sweep=", "hydra.", "hydra/"))]
    named = [word for word in named if not list(_unknown_settings([word]))]
    if not named:
        return None
    with our_hydra():
        try:
            cfg: DictConfig = compose("train", named, return_hydra_config=True).hydra
        except (HydraException, OmegaConfBaseException):
            return {}  # reported with the other problems
        return OmegaConf.to_container(cfg.sweeper)  # type: ignore[return-value]


def _answer_range(word: str) -> str | None:
    """Return the sentence for a range outside a search, None for any other word."""
    if "interval(" not in word:
        return None
    try:
        override = parse_override(word)
    except HydraException:
        return None  # reported when it is composed
    value: Any = override.value()
    if not isinstance(value, IntervalSweep):
        return None
    ends = f"{value.start:g},{value.end:g}"
    return RANGE_ALONE.format(text=word, key=override.key_or_group, ends=ends)


def _unknown_settings(overrides: Sequence[str]) -> Iterator[str]:
    """Yield the problem of each setting that a search does not have; Hydra would refuse the whole command."""
    takes = arguments(SEARCH) or {}
    for word in overrides:
        key, _, _ = word.lstrip("+").partition("=")
        name = key.removeprefix("hydra.sweeper.").partition(".")[0]
        if key.startswith("hydra.sweeper.") and name not in takes:
            yield f"{key} is not a key of a search{nearest(name, takes) or '; there are ' + ', '.join(takes)}"


def _settings_problems(sweeper: dict[str, Any]) -> Iterator[str]:
    """Yield the problems of the search's settings."""
    for name, argument in (arguments(SEARCH) or {}).items():
        if expected := wanted(sweeper[name], argument.type):
            yield f"hydra.sweeper.{name} is {sweeper[name]!r:.200}: it must be {expected}"
        elif name == "timeout":
            try:
                read_seconds(sweeper[name])
            except UserError as error:
                yield str(error)


def _check_space(space: Space) -> None:
    """Raise a ConfigError for values with which no trial can run.

    A combination that cannot run fails as a trial, if each of its values can run in another one.
    """
    with our_hydra():
        composer = GridComposer()
        found = [(values, composer.problems(space.overrides(values))) for values in space.probes()]
    refused = []
    for key, parameter in space.parameters.items():
        for end in parameter.ends:
            with_end = [problems for values, problems in found if values[key] == end]
            if all(with_end):
                refused += with_end[0]
    if refused:
        raise ConfigError(list(dict.fromkeys(_with_remedy(space, problem) for problem in refused)))


def _with_remedy(space: Space, problem: str) -> str:
    """Return a problem, for a range of real numbers that must be whole with what to write."""
    parameter = space.parameters.get(problem.partition(" is ")[0])
    if isinstance(parameter, Number) and not parameter.whole and "a whole number" in problem:
        return f"{problem}: write int(interval({parameter.low:g},{parameter.high:g}))"
    return problem
