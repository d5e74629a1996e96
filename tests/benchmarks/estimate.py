"""What a run was estimated to take, and what it took.

python -m tests.benchmarks.estimate data=text data.path=tiny-shakespeare.txt trainer.max_steps=60

The words are those of train.py. Time is that of the whole training, with validations, samples and checkpoints; memory
is the peak of the process's resident memory.
"""

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.measure import given, machine, report

TRAIN = Path(__file__).parents[2] / "train.py"


def row(what: str, expected: float, found: float) -> dict[str, str | float]:
    """Return a line of the table."""
    return {
        "what": what,
        "estimated": round(expected, 2),
        "found": round(found, 2),
        "ratio": round(expected / found, 3),
    }


def main(words: list[str]) -> None:
    """Print a row each for time, memory and disk."""
    options, words = given(words, output="table")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(TRAIN), *words, f"output_dir={folder}/run"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        summary = json.loads(Path(folder, "run", "summary.json").read_text(encoding="utf-8"))
        sizes = [path.stat().st_size for path in Path(folder, "run", "checkpoints").glob("*.ckpt")]
    estimate, peak_kilobytes = summary["estimate"], resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    pairs = {
        "tokens per second": (estimate["tokens_per_second"], summary["tokens_per_second"]),
        "seconds": (estimate["seconds"], summary["total_seconds"]),
        "memory (MB)": (sum(estimate["memory"].values()) / 1e6, peak_kilobytes * 1024 / 1e6),
        "largest checkpoint (MB)": (estimate["checkpoint_bytes"] / 1e6, max(sizes) / 1e6),
        "checkpoints (MB)": (estimate["disk_bytes"] / 1e6, sum(sizes) / 1e6),
    }
    report(
        " ".join(words),
        [row(what, *pair) for what, pair in pairs.items()],
        output=options["output"],
        machine=machine(),
        measuring_seconds=estimate["measuring_seconds"],
        parts=", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in estimate["memory"].items()),
    )


if __name__ == "__main__":
    main(sys.argv[1:])
