"""Seconds of training to the loss of nanoGPT's CPU run: its own 2,000 iterations and ours.

python -m tests.benchmarks.time_to_loss nanogpt=PATH text=tiny-shakespeare.txt [seeds=123,1,2] [output=json] [overrides]

The two alternate. nanoGPT is run as in its README, from a copy of the checkout, and then measured over the whole
validation set, as ours is: each character once, in windows of 64. Time spent on evaluation is left out; nanoGPT's first
iteration, which includes one, counts as its median. Its seed is written into its train.py. The ratio is valid if our
loss is not above nanoGPT's.
"""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.benchmarks.measure import given, machine, report
from tests.benchmarks.peers import nanogpt_model

ROOT = Path(__file__).parents[2]
CONTEXT, N_STEPS = 64, 2000
THEIR_COMMAND = (
    "train.py config/train_shakespeare_char.py --device=cpu --compile=False --eval_iters=20 --log_interval=1 "
    f"--block_size={CONTEXT} --batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 --max_iters={N_STEPS} "
    f"--lr_decay_iters={N_STEPS} --dropout=0.0 --eval_interval={N_STEPS}"
)


def prepare(checkout: Path, text: Path, folder: Path) -> None:
    """Copy the files of nanoGPT's run, and prepare its data with its own script."""
    data = folder / "data" / "shakespeare_char"
    data.mkdir(parents=True)
    for name in ("train.py", "model.py", "configurator.py", "config", "data/shakespeare_char/prepare.py"):
        source = checkout / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    shutil.copy(text, data / "input.txt")
    (folder / "requests.py").touch()  # prepare.py imports it for a download that is not needed
    subprocess.run(
        [sys.executable, "data/shakespeare_char/prepare.py"],
        cwd=folder,
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )


def nanogpt_run(folder: Path, seed: int) -> tuple[float, float]:
    """Return nanoGPT's seconds of 2,000 iterations and its whole validation loss."""
    script = folder / "train.py"
    script.write_text(re.sub(r"manual_seed\(\d+", f"manual_seed({seed}", script.read_text()))
    done = subprocess.run(
        [sys.executable, *THEIR_COMMAND.split()], cwd=folder, check=True, capture_output=True, text=True
    )
    times = [float(ms) / 1000 for ms in re.findall(r"time ([\d.]+)ms", done.stdout)]
    assert len(times) == N_STEPS + 1, f"{len(times)} iterations"
    usual = times[1:-1]  # the first and the last include an evaluation
    return sum(usual) + statistics.median(usual), validation_loss(folder)


@torch.no_grad()
def validation_loss(folder: Path) -> float:
    """Return the mean loss of nanoGPT's last checkpoint over all characters but the first."""
    checkpoint = torch.load(folder / "out-shakespeare-char" / "ckpt.pt", weights_only=False)
    assert checkpoint["iter_num"] == N_STEPS
    model = nanogpt_model(str(folder), checkpoint["model_args"]).eval()
    model.load_state_dict(checkpoint["model"])
    ids = torch.from_numpy(np.fromfile(folder / "data" / "shakespeare_char" / "val.bin", np.uint16).astype(np.int64))
    inputs, targets = ids[:-1], ids[1:]
    total = 0.0
    for start in range(0, len(inputs), CONTEXT * 256):
        x, y = inputs[start : start + CONTEXT * 256], targets[start : start + CONTEXT * 256]
        full = len(x) // CONTEXT * CONTEXT
        for rows, wanted in (
            (x[:full].view(-1, CONTEXT), y[:full].view(-1, CONTEXT)),
            (x[full:][None], y[full:][None]),
        ):
            if rows.numel():
                total += float(model(rows, wanted)[1]) * rows.numel()
    return total / len(inputs)


def our_run(text: Path, folder: Path, seed: int, overrides: list[str]) -> tuple[float, float, dict[str, Any]]:
    """Return our seconds and validation loss, and the summary."""
    command = ["train.py", "experiment=shakespeare_fast", f"data.path={text}", f"seed={seed}", f"output_dir={folder}"]
    subprocess.run([sys.executable, *command, *overrides], cwd=ROOT, check=True, capture_output=True)
    summary = json.loads((folder / "summary.json").read_text())
    return summary["seconds"], summary["val"]["val/loss"], summary


def main(words: list[str]) -> None:
    """Print a row per seed, and the ratio of the sums."""
    options, overrides = given(words, nanogpt="", text="", seeds="123,1,2", output="table")
    text, rows = Path(options["text"]).resolve(), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(Path(options["nanogpt"]), text, folder / "nanogpt")
        for seed in map(int, options["seeds"].split(",")):
            ours, our_loss, summary = our_run(text, folder / f"ours_{seed}", seed, overrides)
            theirs, their_loss = nanogpt_run(folder / "nanogpt", seed)
            rows.append(
                {
                    "seed": seed,
                    "ours, s": ours,
                    "nanoGPT, s": theirs,
                    "ours, val/loss": round(our_loss, 4),
                    "nanoGPT, val/loss": round(their_loss, 4),
                    "ratio": round(ours / theirs, 3),
                }
            )
    reached = all(row["ours, val/loss"] <= row["nanoGPT, val/loss"] for row in rows)
    ratio = sum(row["ours, s"] for row in rows) / sum(row["nanoGPT, s"] for row in rows)
    report(
        "time to nanoGPT's loss",
        rows,
        output=options["output"],
        ratio=round(ratio, 4) if reached else None,
        steps=f"{summary['steps']} of ours ({summary['tokens']:,} tokens), {N_STEPS} of nanoGPT's",
        parameters=summary["parameters"],
        precision=summary["precision"],
        machine=machine(),
    )


if __name__ == "__main__":
    main(sys.argv[1:])
