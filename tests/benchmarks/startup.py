"""Start-up time of whole processes, from Enter to the first result.

python -m tests.benchmarks.startup run=RUN [rounds=3] [output=json] [overrides of the default run]

The help, the configuration, the first token of `gptlab generate`, and the end of the default run's first step
with data already prepared. The first round fills the disk's cache and is not counted.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np

from tests.benchmarks.measure import given, lower_quartile, machine, report, take_turns

ROOT = Path(__file__).parents[2]


class FirstStep(L.Callback):
    """End the process after the first optimizer step."""

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """End the process."""
        os._exit(0)


def until(read: int | None, *words: str) -> None:
    """Run a command to its end, or until it has written some bytes."""
    with subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "GPTLAB_TRUST": "tests"},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(-1 if read is None else read) or read is None, f"{words} wrote nothing"
        if read is not None:
            process.kill()
    assert process.returncode in (0, -9), f"{words} failed"


def main(words: list[str]) -> None:
    """Print a row per command."""
    options, words = given(words, run=None, rounds=3, output="table")
    with tempfile.TemporaryDirectory() as folder:
        first = [*words, f"output_dir={folder}/run", "+callbacks.first._target_=tests.benchmarks.startup.FirstStep"]
        ways: Mapping[str, Callable[[], None]] = {
            "python train.py --help": partial(until, None, "train.py", "--help"),
            "python train.py --cfg job": partial(until, None, "train.py", "--cfg", "job"),
            "python train.py: the first step": partial(until, None, "train.py", *first),
        }
        if options["run"] is not None:
            prompt = "In the beginning"
            command = ["-m", "gptlab", "generate", f"run={options['run']}", f"prompt={prompt}"]
            ways = {**ways, "gptlab generate: the first token": partial(until, len(prompt) + 1, *command)}
        seconds = take_turns(ways, rounds=options["rounds"])
    rows = [
        {"until": name, "s": lower_quartile(times), "median, s": float(np.median(times))}
        for name, times in seconds.items()
    ]
    report("startup", rows, output=options["output"], machine=machine(), rounds=options["rounds"])


if __name__ == "__main__":
    main(sys.argv[1:])
