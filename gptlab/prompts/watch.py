"""A time limit for a process that may never answer."""

import subprocess
import threading
import time


class Watch:
    """Kills a process that does not answer in time.

    A thread checks the alarm and sleeps in between. Waking it for each new alarm would take longer than most replies,
    so it never sleeps longer than the shortest alarm.

    Args:
        process: the one to kill.
        shortest: the fewest seconds of any alarm.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", *, shortest: float) -> None:
        self.process, self.shortest = process, shortest
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._deadline: float | None = None
        self._rang = False
        threading.Thread(target=self._run, name="chat template", daemon=True).start()

    def begin(self, seconds: float) -> None:
        """Set the alarm."""
        self._deadline = time.monotonic() + seconds

    def finish(self) -> bool:
        """Clear the alarm and return whether it killed the process."""
        with self._lock:
            self._deadline = None
            return self._rang

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._rest()):
            with self._lock:
                if self._deadline is not None and time.monotonic() >= self._deadline:
                    self._rang = True
                    self.process.kill()
                    return

    def _rest(self) -> float:
        deadline = self._deadline
        return self.shortest if deadline is None else min(self.shortest, max(0.0, deadline - time.monotonic()))
