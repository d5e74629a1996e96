"""The command that Hydra runs, and its group choices."""

import shlex
import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig


def command_line() -> str:
    """Return the command that trains this run.

    For a job of a sweep, it is the command that would train this job alone.
    """
    if not HydraConfig.initialized():
        return "Run.compose(...).train()"
    program = "python train.py" if Path(sys.argv[0]).name == "train.py" else "gptlab train"
    return shlex.join([*program.split(), *HydraConfig.get().overrides.task])


def choices() -> dict[str, str]:
    """Return the choice from each group.

    The result is empty if Hydra composed nothing.
    """
    if not HydraConfig.initialized():
        return {}
    return {str(group): str(choice) for group, choice in HydraConfig.get().runtime.choices.items()}
