"""How the process requests memory from the system."""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # constants of glibc's malloc.h


def keep_freed_memory() -> None:
    """Let glibc reuse freed memory instead of returning it.

    By default it maps every tensor above 32 MB anew and unmaps it when it is freed, and the kernel zeroes each page
    again: a sixth of the time of a GPT-2's step on two cores, with the same peak memory (python -m
    tests.benchmarks.training). Where many large tensors of one size come and go the heap fragments (python -m
    tests.benchmarks.head), so the head has one buffer for its logits. Other C libraries are left as they are.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, -1)
