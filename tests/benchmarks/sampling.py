"""Tokens per second of batches from a corpus on disk, small and large.

python -m tests.benchmarks.sampling [tokens=1000000,100000000] [batch=8 context=1024] [batches=2000] [output=json]

Windows are read in random order through the DataLoader of training. The ids are random.
"""

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader

from gptlab.data.samplers import TrainSampler
from gptlab.data.text.shards import ShardWriter
from gptlab.data.text.windows import Windows
from tests.benchmarks.measure import given, lower_quartile, machine, ratios, report, take_turns

N_VOCAB = 50257


def corpus(folder: Path, n_tokens: int, context: int) -> Windows:
    """Return windows over this many random ids in files."""
    rng = np.random.default_rng(0)
    with ShardWriter(folder, f"tokens_{n_tokens}", dtype="uint16", shard_tokens=1 << 26) as writer:
        for start in range(0, n_tokens, 1 << 20):
            writer.write(rng.integers(0, N_VOCAB, min(1 << 20, n_tokens - start)).astype(np.uint16))
    return Windows(writer.shards, dtype="uint16", context_length=context, stride=context, tail=False)


def draw(windows: Windows, batch: int, n_batches: int) -> None:
    """Read this many batches."""
    order = TrainSampler(
        windows, batch_size=batch, seed=0, n_batches=n_batches, epoch_rows=len(windows), start=0, rank=0, world_size=1
    )
    for _ in DataLoader(windows, sampler=order, batch_size=None):  # type: ignore[arg-type]
        pass


def main(words: list[str]) -> None:
    """Print a row per corpus."""
    options, left = given(
        words, tokens="1000000,100000000", batch=8, context=1024, batches=2000, rounds=5, output="table"
    )
    assert not left, f"unknown: {left}"
    batch, context, n_batches = (options[key] for key in ("batch", "context", "batches"))
    with tempfile.TemporaryDirectory() as folder:
        ways: dict[str, Callable[[], None]] = {
            f"{n:,} tokens": partial(draw, corpus(Path(folder), n, context), batch, n_batches)
            for n in map(int, options["tokens"].split(","))
        }
        seconds = take_turns(ways, rounds=options["rounds"])
    rows = [
        {
            "corpus": name,
            "million tokens/s": n_batches * batch * context / lower_quartile(times) / 1e6,
            "ms a batch": 1000 * lower_quartile(times) / n_batches,
        }
        for name, times in seconds.items()
    ]
    first, *_, last = ways
    report(
        f"sampling: batches of {batch} x {context}",
        rows,
        output=options["output"],
        ratios=ratios(seconds, [(last, first)]),
        machine=machine(),
        rounds=options["rounds"],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
