"""What was typed."""

import shlex
import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig


def typed() -> str:
    """The command that trains this run; of a sweep, what would train this job alone."""
    if not HydraConfig.initialized():
        return "Run.compose(...).train()"
    program = "python train.py" if Path(sys.argv[0]).name == "train.py" else "gptlab train"
    return shlex.join([*program.split(), *HydraConfig.get().overrides.task])
