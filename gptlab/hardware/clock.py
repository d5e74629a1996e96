"""A clock that knows how long the process waited for a core."""

from pathlib import Path
from time import perf_counter
from typing import NamedTuple

THREADS = Path("/proc/self/task")  # on Linux; elsewhere nothing is known of waiting


class Reading(NamedTuple):
    """The time, and how long each thread has waited so far."""

    seconds: float
    waited: dict[str, float]  # thread -> seconds in which it could run and had no core


class Elapsed(NamedTuple):
    """The time between two readings."""

    seconds: float
    waited: float  # of it, by the thread that waited longest: the others wait for that one

    @property
    def alone(self) -> float:
        """Return the seconds that the work takes when no other process wants the cores."""
        return self.seconds - self.waited


def read_clock() -> Reading:
    """Return the time; the kernel counts the waiting of every thread in its `schedstat`."""
    waited = {}
    for path in THREADS.glob("*/schedstat") if THREADS.exists() else ():
        try:
            waited[path.parent.name] = int(path.read_text().split()[1]) / 1e9
        except (OSError, IndexError):  # the thread has ended, or the kernel does not count
            continue
    return Reading(perf_counter(), waited)


def elapsed(start: Reading, end: Reading) -> Elapsed:
    """Return the time between two readings, at most all of it waited."""
    seconds = end.seconds - start.seconds
    waited = max((end.waited[thread] - start.waited.get(thread, 0.0) for thread in end.waited), default=0.0)
    return Elapsed(seconds, min(waited, 0.99 * seconds))
