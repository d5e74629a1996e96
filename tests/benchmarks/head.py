"""The language-model head, forward and backward: all logits at once against chunks; milliseconds and memory.

python -m tests.benchmarks.head [rows=2048] [emb_dim=768] [vocab=50257] [scored=1.0] [precision=auto] [rounds=7]
    [output=json]

Each way has its own process. `plain` is as in nanoGPT and the book: logits, then F.cross_entropy. The last way is
that of `train.py`, with its process's settings.
"""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from gptlab.batch import IGNORE_INDEX
from gptlab.commands.memory import keep_freed_memory
from gptlab.hardware.precision import autocast, choose_precision
from gptlab.heads.cross_entropy import ChunkRows, cross_entropy
from tests.benchmarks.measure import Apart, ceilings, given, in_turns, lower_quartile, machine, ratios, report

WAYS: dict[str, tuple[ChunkRows, bool]] = {  # loss_chunk_rows, and whether freed memory is kept
    "plain": (None, False),
    "chunks of 256": (256, False),
    "auto": ("auto", False),
    "plain, memory kept": (None, True),
    "auto, memory kept": ("auto", True),
}


def make(way: str, options: dict[str, Any]) -> Callable[[], float]:
    """Make one of the ways, in its own process."""
    loss_chunk_rows, kept = WAYS[way]
    if kept:
        keep_freed_memory()
    torch.manual_seed(0)
    n_rows, width, n_vocab = (options[key] for key in ("rows", "emb_dim", "vocab"))
    hidden = torch.randn(n_rows, width, requires_grad=True)
    weight = (0.02 * torch.randn(n_vocab, width)).requires_grad_()
    targets = torch.randint(n_vocab, (n_rows,))
    targets[torch.randperm(n_rows)[round(options["scored"] * n_rows) :]] = IGNORE_INDEX

    def step() -> float:
        hidden.grad = weight.grad = None
        with autocast(options["precision"], "cpu"):
            total = cross_entropy(hidden, weight, targets, chunk_rows=loss_chunk_rows)
        total.backward()
        return total.item()

    return step


def main(words: list[str]) -> None:
    """Print a row per way, and the ratios."""
    options, words = given(
        words, rows=2048, emb_dim=768, vocab=50257, scored=1.0, precision="auto", rounds=7, output="table"
    )
    assert not words, f"unknown: {words}"
    options["precision"] = choose_precision(options["precision"], "cpu")
    found = in_turns({name: Apart(make, name, options) for name in WAYS}, rounds=options["rounds"])
    rows = [
        {
            "way": name,
            "loss": round(each.first, 2),
            "ms": 1000 * lower_quartile(each.seconds),
            "median, ms": 1000 * float(np.median(each.seconds)),
            "MB": each.peak,
        }
        for name, each in found.items()
    ]
    seconds = {name: each.seconds for name, each in found.items()}
    size = f"{options['rows']} rows, width {options['emb_dim']}, vocabulary {options['vocab']}"
    report(
        f"head: {size}, {options['precision']}",
        rows,
        output=options["output"],
        ratios=ratios(seconds, [(name, "plain") for name in WAYS if name != "plain"]),
        ceilings=ceilings(),
        machine=machine(),
        rounds=options["rounds"],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
