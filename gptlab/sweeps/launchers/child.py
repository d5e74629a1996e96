"""One job of a sweep in a process of its own.

A process that dies, for want of memory perhaps, takes no other job with it.
"""

import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from threading import Thread
from typing import IO, Any, cast

from gptlab.config.hydra_internals import SweptJob, run_swept_job
from gptlab.sweeps.interruption import term_as_exit

MAX_TAIL_BYTES = 4000  # read from the end of what a process has printed


class JobProcess:
    """A process that runs one job.

    It is not in the terminal's group, so that Ctrl-C reaches it through its launcher only. Its standard input stays
    open: where it ends, the launcher has died, and the job saves and stops.
    """

    def __init__(self, payload: bytes, environment: Mapping[str, str]) -> None:
        # what it prints is in its train.log too, except for a crash
        self.output = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gptlab.sweeps.launchers.child"],
            stdin=subprocess.PIPE,
            stdout=self.output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment},
            start_new_session=True,
        )
        self.ending: str | None = None
        self.input = cast(IO[bytes], self.process.stdin)
        with suppress(BrokenPipeError):  # it has died; `poll` says of what
            self.input.write(payload)
            self.input.flush()

    def poll(self) -> str | None:
        """Return how the process ended, see `describe_exit`; None while it runs."""
        code = self.process.poll()
        if code is not None and self.ending is None:
            self.ending = describe_exit(code, self.last_line())
            self.output.close()
            with suppress(BrokenPipeError):
                self.input.close()
        return self.ending

    def stop(self, number: int) -> None:
        """Ask the process to save and stop."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """End the process at once."""
        self.process.kill()

    def last_line(self) -> str:
        """Return the last line that the process printed."""
        self.output.seek(max(0, self.output.seek(0, os.SEEK_END) - MAX_TAIL_BYTES))
        lines = self.output.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1].strip() if lines else ""


def make_payload(task: Any, job: SweptJob) -> bytes:
    """Return what a job's process reads: the program's name, what it runs, and the job."""
    return pickle.dumps((sys.argv[0], task, job))


def describe_exit(code: int, last_line: str) -> str:
    """Return how a process ended that left no result, empty where it ended well."""
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else "unknown"
        return f"killed by signal {-code} ({name})" + (", perhaps out of memory" if name == "SIGKILL" else "")
    return f"ended with status {code}: {last_line}" if code else ""


def main() -> None:
    """Run the job that standard input describes."""
    sys.argv[0], task, job = pickle.load(sys.stdin.buffer)
    Thread(target=_watch_launcher, daemon=True).start()
    with term_as_exit():
        run_swept_job(job, task)


def _watch_launcher() -> None:
    """Wait for the launcher's end, and then save and stop."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
