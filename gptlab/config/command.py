"""The command that Hydra runs: its words, group choices and folder."""

import shlex
import sys
from collections.abc import Container
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from gptlab.config.plain import references
from gptlab.errors import UserError

FOLDER_REFERENCE = "${output_dir}"  # hydra.run.dir, unless the user gives one


def command_line() -> str:
    """Return the command that trains this run.

    For a job of a sweep, it is the command that would train this job alone.
    """
    if not HydraConfig.initialized():
        return "Run.compose(...).train()"
    return f"{program()} {shlex.join(HydraConfig.get().overrides.task)}"


def program() -> str:
    """Return how the user calls the command that trains."""
    return "python train.py" if Path(sys.argv[0]).name == "train.py" else "gptlab train"


def choices() -> dict[str, str]:
    """Return the choice from each group.

    The result is empty if Hydra composed nothing.
    """
    if not HydraConfig.initialized():
        return {}
    return {str(group): str(choice) for group, choice in HydraConfig.get().runtime.choices.items()}


def settle_folder(whole: DictConfig, typed: Container[str]) -> bool:
    """Make `output_dir` and `hydra.run.dir` one folder, whichever was given.

    Args:
        whole: the configuration with Hydra's own settings, which is changed.
        typed: the keys on the command line.

    Returns:
        Whether its name holds the time, see `create_folder`.

    Raises:
        UserError: both are given, and are two folders.
    """
    given = references(whole.hydra.run)["dir"]
    if given == FOLDER_REFERENCE:
        return is_dated(references(whole)["output_dir"])
    if "output_dir" not in typed:
        whole.output_dir = whole.hydra.run.dir
        return is_dated(given)
    own, hydras = Path(whole.output_dir), Path(whole.hydra.run.dir)
    if "hydra.run.dir" in typed and own.absolute() != hydras.absolute():
        raise UserError(f"output_dir is {own} and hydra.run.dir is {hydras}, two folders for one run: give one of them")
    whole.hydra.run.dir = FOLDER_REFERENCE
    return is_dated(references(whole)["output_dir"])


def is_dated(folder: str) -> bool:
    """Return whether an unresolved path holds the time of the run."""
    return "${now:" in folder
