"""An alarm for a process that may never answer."""

import subprocess
import threading
import time


class Watch:
    """Kills a process that is not done in time, from a thread that sleeps most of the time.

    The thread need not hear of a new alarm, which would cost more than most answers take: it never sleeps longer than
    the shortest of them.

    Args:
        process: the one to kill.
        shortest: seconds that any alarm has at least.
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
        """Clear the alarm and return whether it rang: then the process is dead."""
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
