"""Time to open a run, and to verify its checksum.

python -m tests.benchmarks.opening run=RUN [rounds=20] [output=json]

A verified checkpoint that has not changed since is opened without hashing it; any other is hashed first.
"""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from gptlab.run import Run
from gptlab.storage.checkpoint import find_checkpoint
from gptlab.storage.checksum import check_checksum
from tests.benchmarks.measure import given, lower_quartile, machine, report, take_turns


def main(words: list[str]) -> None:
    """Print a row per way of opening."""
    options, _ = given(words, run="", rounds=20, output="table")
    path = find_checkpoint(Path(options["run"]))

    def touched(then: Callable[[Path], object]) -> None:
        os.utime(path)  # as a copy is: nobody has looked at it yet
        then(path)

    ways: Mapping[str, Callable[[], object]] = {
        "verified before": lambda: Run.open(path),
        "hashed first": lambda: touched(Run.open),
        "the hash alone": lambda: touched(check_checksum),
    }
    seconds = take_turns(ways, rounds=options["rounds"])
    rows = [
        {"way": name, "ms": lower_quartile(times) * 1e3, "median, ms": float(np.median(times)) * 1e3}
        for name, times in seconds.items()
    ]
    megabytes = round(path.stat().st_size / 1e6, 1)
    report("opening", rows, output=options["output"], machine=machine(), rounds=options["rounds"], megabytes=megabytes)


if __name__ == "__main__":
    main(sys.argv[1:])
