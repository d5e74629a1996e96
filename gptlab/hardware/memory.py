"""Free and used memory of a device."""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from gptlab.errors import UserError

MEMORY_REMEDY = (  # of a training run
    "set activation_checkpointing=true, or start again with a smaller data.batch_size, shorter rows "
    "(model.context_length) or trainer.accumulate_grad_batches=auto"
)
MEMORY_FRACTION = 0.9  # of the free memory can be used; freed and reallocated blocks leave holes in the rest


@contextmanager
def enough_memory(remedy: str) -> Iterator[None]:
    """Raise a UserError where a tensor finds not enough memory.

    Args:
        remedy: what to do about it.

    Raises:
        UserError: there was not enough memory for a tensor.
    """
    try:
        yield
    except RuntimeError as error:  # on a CPU, torch has no class of its own for it
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise UserError(f"not enough memory ({' '.join(str(error).split()):.200}): {remedy}") from error


def memory_in_use(device: torch.device) -> int:
    """Return the bytes of memory in use.

    On a GPU it is the peak of its tensors, elsewhere the process's resident memory. On a system without /proc it is the
    peak of the resident memory, on Windows 0.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return 0
    import resource  # Windows has no such module

    pages = Path("/proc/self/statm")
    if pages.exists():
        return int(pages.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def free_memory(device: torch.device) -> int | None:
    """Return the bytes of free memory.

    None if the system does not report it. On a GPU it is the device's memory, elsewhere main memory, or what the
    container's limit leaves of it.
    """
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(device)[0]
    table = Path("/proc/meminfo")
    if not table.exists():
        return None
    lines = dict(line.split(":") for line in table.read_text(encoding="utf-8").splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    group = Path("/sys/fs/cgroup")  # a container may have less memory than its machine
    limit = group / "memory.max"
    if limit.exists() and (limit_bytes := limit.read_text().strip()).isdigit():
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        free = min(free, int(limit_bytes) - int(stat["anon"]))  # the page cache is reclaimable and does not count
    return max(free, 0)


def usable_memory(device: torch.device) -> float:
    """Return the bytes of free memory that can be used; infinite if the system does not report them."""
    free = free_memory(device)
    return math.inf if free is None else MEMORY_FRACTION * free
