"""How much memory a device has, and how much of it is in use."""

import sys
from pathlib import Path

import torch


def memory_in_use(device: torch.device) -> int:
    """Bytes: the most that tensors have taken of a GPU; else what the process holds of main memory.

    On a system that tells no more, the most that it held; 0 where not even that is told.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return 0
    import resource  # not on Windows

    pages = Path("/proc/self/statm")
    if pages.exists():
        return int(pages.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def free_memory(device: torch.device) -> int | None:
    """Bytes that may still be taken: of a GPU's memory, or of main memory; None where the system does not tell."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(device)[0]
    table = Path("/proc/meminfo")
    if not table.exists():
        return None
    lines = dict(line.split(":") for line in table.read_text(encoding="utf-8").splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    group = Path("/sys/fs/cgroup")  # a container may have less than its machine
    limit = group / "memory.max"
    if limit.exists() and (most := limit.read_text().strip()).isdigit():
        kinds = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        free = min(free, int(most) - int(kinds["anon"]))  # files in the cache make room
    return max(free, 0)
