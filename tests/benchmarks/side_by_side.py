"""Two jobs side by side, against the same two one after the other.

python -m tests.benchmarks.side_by_side rounds=1

Each way is a whole sweep in a process of its own, from its start to the leaderboard. A step uses one core
(OMP_NUM_THREADS=1), so that two jobs have two cores to share. More words are those of train.py.
"""

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from tests.benchmarks.measure import given, lower_quartile, machine, report, take_turns
from tests.conftest import write_text

TRAIN = Path(__file__).parents[2] / "train.py"
WORDS = ("model=tiny", "tokenizer=bytes", "data=text", "trainer.accelerator=cpu", "trainer.precision=32-true")
SHORT = ("callbacks.samples=null", "callbacks.probes=null", "final_evaluation=false", "trainer.val_check_interval=1.0")
LAUNCHERS = {"one after the other": "basic", "side by side": "joblib"}


def sweep(launcher: str, words: list[str], folder: Path) -> None:
    """Train two jobs."""
    command = [sys.executable, str(TRAIN), "-m", *words, "seed=1,2", f"hydra/launcher={launcher}"]
    command += ["hydra.launcher.n_jobs=2"] if launcher == "joblib" else []
    with tempfile.TemporaryDirectory(dir=folder) as sweep_folder:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command.append(f"hydra.sweep.dir={sweep_folder}/sweep")
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


def main(words: list[str]) -> None:
    """Print the seconds of each way, and their ratio."""
    options, more = given(words, rounds=2, steps=500, output="table")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = write_text(folder / "text.txt", 60_000)
        run = [*WORDS, *SHORT, f"data.path={text}", f"trainer.max_steps={options['steps']}", *more]
        ways = {way: partial(sweep, launcher, run, folder) for way, launcher in LAUNCHERS.items()}
        seconds = take_turns(ways, rounds=options["rounds"], warm_up=0)
    after, beside = (lower_quartile(seconds[way]) for way in LAUNCHERS)
    rows = [{"way": way, "seconds": round(lower_quartile(taken), 1)} for way, taken in seconds.items()]
    report(
        "two jobs",
        rows,
        output=options["output"],
        machine=machine(),
        steps=options["steps"],
        ratio=round(beside / after, 3),
    )


if __name__ == "__main__":
    main(sys.argv[1:])
