"""Speed and memory of tokenising a large text to disk, against tiktoken in one thread.

python -m tests.benchmarks.preparation [megabytes=100] [rounds=3] [output=json]

The text is one .txt file of the Python manual's lines in random order, so it cannot be split by documents. Ours is the
whole preparation after the index: the file is read, cleaned, tokenised, counted, hashed and written. tiktoken gets
chunks in memory, and its output is discarded. Memory is counted above that of the imports.
"""

import pydoc_data.topics
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import tiktoken

from gptlab.data.text.dataset import TextData
from gptlab.data.text.readers import TextReader
from gptlab.tokenizer import gpt2
from tests.benchmarks.measure import given, lower_quartile, machine, ratios, report, resident

CLEAN = ["newlines", "nfc", "control_characters", "trailing_spaces", "blank_lines"]  # as conf/data/text.yaml
CONTEXT_LENGTH, BATCH_SIZE, PIECE = 1024, 8, 1 << 18


def write_text(path: Path, n_bytes: int) -> None:
    """Write a file of about this size."""
    lines = [line for topic in pydoc_data.topics.topics.values() for line in topic.splitlines(keepends=True)]
    rng, written = random.Random(0), 0
    with path.open("w") as file:
        while written < n_bytes:
            rng.shuffle(lines)
            written += file.write("".join(lines))


def text_data(path: Path, cache: Path) -> TextData:
    """Return the file as data of `data=text`."""
    return TextData(
        path=str(path),
        sha256=None,
        reader=TextReader(field="text", separator=None),
        on_error="error",
        clean=CLEAN,
        val_fraction=0.01,
        val_documents=[],
        split_seed=0,
        stride=None,
        score_tail=True,
        batch_size=BATCH_SIZE,
        batch_tokens=None,
        n_workers=0,
        cache_dir=str(cache),
        max_expansion=100,
    )


def pieces(path: Path) -> Iterator[str]:
    """Yield the file's text in chunks."""
    with path.open(encoding="utf-8") as file:
        while piece := file.read(PIECE):
            yield piece


def measure(folder: Path, megabytes: int, rounds: int) -> tuple[dict[str, list[float]], float, float]:
    """Return each stage's seconds per round, the MB of text, and the peak memory in MB."""
    path = folder / "text.txt"
    write_text(path, megabytes * 1_000_000)
    tokenizer = gpt2.load(encoding="gpt2")
    encoding: tiktoken.Encoding = tokenizer._encoding
    tokenizer.encode_array("warm")
    before = resident("VmRSS")
    seconds: dict[str, list[float]] = {"tiktoken, one thread": [], "index": [], "tokens": [], "again": []}

    def timed(stage: str, call: Any, *args: Any, **kwargs: Any) -> None:
        start = perf_counter()
        call(*args, **kwargs)
        seconds[stage].append(perf_counter() - start)

    for _ in range(rounds):
        text = text_data(path, folder / "cache")
        timed("index", text.training_text)
        timed("tokens", text.prepare, tokenizer, context_length=CONTEXT_LENGTH)
        timed("again", text.prepare, tokenizer, context_length=CONTEXT_LENGTH)
        shutil.rmtree(folder / "cache")
        taken = 0.0
        for piece in pieces(path):  # reading is not counted as tiktoken's time
            start = perf_counter()
            encoding.encode_to_numpy(piece, disallowed_special=())
            taken += perf_counter() - start
        seconds["tiktoken, one thread"].append(taken)
    return seconds, path.stat().st_size / 1e6, resident("VmHWM") - before


def main(words: list[str]) -> None:
    """Print a row per stage."""
    options, left = given(words, megabytes=100, rounds=3, output="table")
    assert not left, f"unknown: {left}"
    with tempfile.TemporaryDirectory() as folder:
        seconds, size, memory = measure(Path(folder), options["megabytes"], options["rounds"])
    rows = [
        {"stage": stage, "s": lower_quartile(times), "MB/s": size / lower_quartile(times)}
        for stage, times in seconds.items()
    ]
    report(
        f"{size:,.0f} MB of text",
        rows,
        output=options["output"],
        ratios=ratios(seconds, [("tokens", "tiktoken, one thread")]),
        memory=f"at most {memory:,.0f} MB more",
        machine=machine("tiktoken"),
        rounds=options["rounds"],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
