"""The check of a sweep's launcher, before a folder exists."""

import shutil
from collections.abc import Iterator, Sequence
from importlib.util import find_spec

from omegaconf import OmegaConf

from gptlab.config.compose import ConfigError
from gptlab.config.plain import Config
from gptlab.config.signature import arguments
from gptlab.config.value_types import wanted
from gptlab.errors import nearest
from gptlab.sweeps.grid import hydra_settings

PREFIX = "hydra.launcher."
OURS = "gptlab.sweeps.launchers."
SLURM = f"{OURS}cluster.SubmititSlurm"
BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
NOT_SIDE_BY_SIDE = (
    "without hydra/launcher= the jobs run one after the other, and have no such key: add hydra/launcher=joblib to run "
    "them side by side"
)
MISSING = 'hydra/launcher={name} needs the package submitit: install it with pip install "gptlab[sweep]"'
NO_SLURM = (
    "hydra/launcher=submitit_slurm needs Slurm, and there is no sbatch on this machine: start the sweep where you "
    "submit jobs, or rehearse it with hydra/launcher=submitit_local"
)


def check_launcher(words: Sequence[str]) -> None:
    """Raise a ConfigError if the jobs of a command cannot be launched.

    Raises:
        ConfigError: all problems at once: an unknown launcher, key or value, or a package or program that is missing.
    """
    keys = [word for word in words if word.lstrip("+").startswith(PREFIX)]
    if not keys and not any(word.startswith("hydra/launcher=") for word in words):
        return
    others = [word for word in words if word not in keys]
    launcher = hydra_settings(others).launcher
    if keys and launcher.get("_target_") == BASIC:
        raise ConfigError([f"{keys[0]}: {NOT_SIDE_BY_SIDE}"])
    if not str(launcher.get("_target_")).startswith(OURS):
        hydra_settings(list(words))
        return
    if problems := [*_unknown_keys(keys, launcher._target_), *_missing(launcher._target_)]:
        raise ConfigError(problems)
    node = Config(OmegaConf.to_container(hydra_settings(list(words)).launcher))  # type: ignore[arg-type]
    problems = [
        f"{PREFIX}{name} is {node[name]!r:.200}: it must be {expected}"
        for name, argument in (arguments(node._target_) or {}).items()
        if (expected := wanted(node[name], argument.type))
    ]
    if problems:
        raise ConfigError(problems)


def _unknown_keys(words: Sequence[str], target: str) -> Iterator[str]:
    takes = arguments(target) or {}
    for word in words:
        key = word.lstrip("+").partition("=")[0]
        name = key.removeprefix(PREFIX).partition(".")[0]
        if name not in takes:
            yield f"{key} is not a key of this launcher{nearest(name, takes)}; there are {', '.join(takes)}"


def _missing(target: str) -> Iterator[str]:
    """Yield what a launcher of submitit's lacks."""
    if not target.startswith(f"{OURS}cluster."):
        return
    if find_spec("submitit") is None:
        yield MISSING.format(name="submitit_slurm" if target == SLURM else "submitit_local")
    elif target == SLURM and shutil.which("sbatch") is None:
        yield NO_SLURM
