"""The choice of whether to compile the training step."""

import logging
import os
import shutil
from typing import Literal

import torch

from gptlab.errors import UserError
from gptlab.hardware.torch_internals import has_triton

log = logging.getLogger(__name__)

MIN_STEPS = 1000  # compiling takes about a minute and saves a third of each step on a GPU


def choose_compile(wanted: Literal["auto"] | bool, *, n_steps: int) -> bool:
    """Return whether to compile the training step.

    `auto` compiles on a GPU if the run is long enough; on a CPU in bfloat16 a compiled step is hardly faster. If `auto`
    decides against it on a GPU, the reason is logged.

    Raises:
        UserError: compiling is wanted, but there is no compiler.
    """
    gpu = torch.cuda.is_available()
    compiler = has_triton() if gpu else shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")
    needed = "triton" if gpu else "a C++ compiler"
    if wanted is True and not compiler:
        raise UserError(f"compile=true needs {needed}, which is not installed: install it, or set compile=false")
    if wanted != "auto":
        return wanted
    if not gpu:  # no speed-up on CPU
        return False
    obstacles = {
        f"{n_steps} steps are too few, it pays off from {MIN_STEPS}": n_steps < MIN_STEPS,
        f"{needed} is not installed": not compiler,
    }
    reason = next((reason for reason, holds in obstacles.items() if holds), None)
    if reason:
        log.info(f"compile=auto: not compiling ({reason})")
    return reason is None
