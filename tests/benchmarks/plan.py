"""What `gptlab plan` says of three runs, and what they take.

python -m tests.benchmarks.plan shakespeare=tiny-shakespeare.txt instructions=instruction-data.json smollm2=SmolLM2
python -m tests.benchmarks.plan steps=20

A run whose files are not given is left out. Other words are given to all plans and runs. Time is that of the whole
training, `total_seconds` of summary.json, with validations, samples and the final evaluation; memory is the peak of the
process's resident memory.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.estimate import row
from tests.benchmarks.measure import given, machine, report

ROOT = Path(__file__).parents[2]


def runs(options: dict[str, Any]) -> dict[str, list[str]]:
    """Return the words of each run whose files are given."""
    found: dict[str, list[str]] = {"default": []}
    if options["shakespeare"]:
        found["shakespeare_char_cpu"] = ["experiment=shakespeare_char_cpu", f"data.path={options['shakespeare']}"]
    if options["instructions"] and options["smollm2"]:
        found["SmolLM2, adapters"] = [
            *("experiment=assistant_smollm2", "tuning=lora"),
            *(f"weights.path={options['smollm2']}", f"data.path={options['instructions']}"),
        ]
    return found


def peak_of(command: list[str]) -> int:
    """Run a command; return the bytes of its peak resident memory.

    Raises:
        SystemExit: it failed.
    """
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return usage.ru_maxrss * 1024


def measure(name: str, words: list[str], *, seconds: float) -> list[dict[str, str | float]]:
    """Return a line each for time, training time and memory of a run, planned and found."""
    python = sys.executable
    planned = subprocess.run(
        [python, "-m", "gptlab", "plan", *words, f"seconds={seconds}", "output=json"],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    here = json.loads(planned.stdout)["here"]
    with tempfile.TemporaryDirectory() as folder:
        peak = peak_of([python, str(ROOT / "train.py"), *words, f"output_dir={folder}/run"])
        summary = json.loads(Path(folder, "run", "summary.json").read_text(encoding="utf-8"))
    pairs = {
        "seconds in all": (here["seconds"], summary["total_seconds"]),
        "seconds of training": (here["seconds_split"]["training"], summary["seconds"]),
        "memory (MB)": (here["memory_bytes"] / 1e6, peak / 1e6),
    }
    return [{"run": name, **row(what, *pair)} for what, pair in pairs.items()]


def main(words: list[str]) -> None:
    """Print what each run was planned to take, and what it took."""
    options, words = given(words, output="table", steps=0, seconds=10.0, shakespeare="", instructions="", smollm2="")
    for name in ("shakespeare", "instructions", "smollm2"):
        options[name] = options[name] and str(Path(options[name]).absolute())
    short = [f"trainer.max_steps={options['steps']}"] if options["steps"] else []
    rows = [
        line
        for name, own in runs(options).items()
        for line in measure(name, [*own, *short, *words], seconds=options["seconds"])
    ]
    report("gptlab plan", rows, output=options["output"], machine=machine())


if __name__ == "__main__":
    main(sys.argv[1:])
