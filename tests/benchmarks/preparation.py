"""How fast a large text becomes batches, and in how much memory: python -m tests.benchmarks.preparation megabytes=1000

The text is one .txt file of the Python manual's lines in random order, so there are no documents to lean on.
"""

import os
import pydoc_data.topics
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gptlab.data.order import TrainOrder
from gptlab.data.readers import TextReader
from gptlab.data.text import TextData
from gptlab.tokenizer import gpt2

CLEAN = ["newlines", "nfc", "control_characters", "trailing_spaces", "blank_lines"]  # as conf/data/text.yaml
CONTEXT_LENGTH, BATCH_SIZE, N_BATCHES = 1024, 8, 2000


def write_text(path: Path, n_bytes: int) -> None:
    """A file of about this size."""
    lines = [line for topic in pydoc_data.topics.topics.values() for line in topic.splitlines(keepends=True)]
    rng, written = random.Random(0), 0
    with path.open("w") as file:
        while written < n_bytes:
            rng.shuffle(lines)
            written += file.write("".join(lines))


def peak() -> float:
    """MB of memory that this process has taken at most; pages of mapped files are among them."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(folder: Path, megabytes: int) -> Table:
    """Each stage's time, MB of text a second, and memory above what the imports take."""
    path = folder / "text.txt"
    write_text(path, megabytes * 1_000_000)
    size, tokenizer = path.stat().st_size / 1e6, gpt2.load(encoding="gpt2")
    tokenizer.encode_array("warm")
    text = TextData(
        path=str(path),
        sha256=None,
        reader=TextReader(field="text", separator=None),
        clean=CLEAN,
        val_fraction=0.01,
        val_documents=[],
        split_seed=0,
        stride=None,
        score_tail=True,
        batch_size=BATCH_SIZE,
        batch_tokens=None,
        n_workers=0,
        cache_dir=str(folder / "cache"),
    )
    table = Table(title=f"{size:,.0f} MB of text, {os.cpu_count()} cores")
    for column in ("stage", "seconds", "MB/s", "peak memory, MB"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    before = peak()

    def add(stage: str, start: float, n_megabytes: float) -> None:
        seconds = time.perf_counter() - start
        table.add_row(stage, f"{seconds:.2f}", f"{n_megabytes / seconds:,.1f}", f"+{peak() - before:,.0f}")

    start = time.perf_counter()
    text.training_text()
    add("survey", start, size)
    start = time.perf_counter()
    data = text.prepare(tokenizer, context_length=CONTEXT_LENGTH)
    add("tokens", start, size)
    start = time.perf_counter()
    text.prepare(tokenizer, context_length=CONTEXT_LENGTH)
    add("again", start, size)
    order = TrainOrder(data.train, batch_size=BATCH_SIZE, seed=0, n_batches=N_BATCHES, start=0, rank=0, world_size=1)
    start = time.perf_counter()
    drawn = sum(data.train[index]["ids"].numel() for index in order)
    bytes_per_token = data.corpus.train.n_bytes / data.corpus.train.n_tokens
    add(f"{drawn:,} tokens in batches", start, drawn * bytes_per_token / 1e6)
    return table


def main() -> None:
    """megabytes=N on the command line; 100 if nothing is said."""
    arguments = dict(argument.split("=", 1) for argument in sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        Console().print(measure(Path(folder), int(arguments.pop("megabytes", 100))))
    assert not arguments, f"unknown: {arguments}"


if __name__ == "__main__":
    main()
