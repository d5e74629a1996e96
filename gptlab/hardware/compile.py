"""Whether torch.compile pays for itself."""

import logging
import os
import shutil
from typing import Literal

import torch
from torch.utils._triton import has_triton

from gptlab.errors import UserError

log = logging.getLogger(__name__)

STEPS_THAT_REPAY = 1000  # compiling takes about a minute, and saves a third of each step on a GPU


def choose_compile(wanted: Literal["auto"] | bool, *, n_steps: int) -> bool:
    """Whether the step is compiled; where `auto` decides against it, the reason is said.

    `auto` is yes on a GPU for a run of some length; on a CPU in bfloat16 a compiled step is hardly faster than another.

    Raises:
        UserError: it is wanted, and what compiles is not there.
    """
    gpu = torch.cuda.is_available()
    compiler = has_triton() if gpu else shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")
    needed = "triton" if gpu else "a C++ compiler"
    if wanted is True and not compiler:
        raise UserError(f"compile=true needs {needed}, which is not here: install it, or set compile=false")
    if wanted != "auto":
        return wanted
    why_not = {
        "a CPU does not repay it": not gpu,
        f"{n_steps} steps do not repay it": n_steps < STEPS_THAT_REPAY,
        f"{needed} is not here": not compiler,
    }
    reason = next((reason for reason, holds in why_not.items() if holds), None)
    if gpu and reason:
        log.info(f"compile=auto: not compiled, for {reason}")
    return reason is None
