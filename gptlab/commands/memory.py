"""How this process asks the system for memory."""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h


def keep_freed_memory() -> None:
    """Lets glibc hand freed memory out again and not give it back to the system; other libraries are left as they are.

    By itself it maps every tensor above 32 MB anew and unmaps it when it is freed, and the kernel clears each page
    again: a sixth of the time of a GPT-2's step on two cores, which holds as much at most either way
    (python -m tests.benchmarks.training). Where many large tensors of one size come and go the heap grows holes
    (python -m tests.benchmarks.head), so the head has one buffer for its logits.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, -1)
