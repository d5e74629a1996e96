"""Conversations side by side, by length and packed: scored tokens a second of training, for equal work a token.

python -m tests.benchmarks.packing data.path=instruction-data.json [overrides of train.py] [rounds=3]

Each way goes through the whole training part once a round, forward and backward, the ways taking turns. A batch of
packed rows holds about as many tokens as one of the others.
"""

import sys
from time import perf_counter
from typing import Any

import numpy as np
import torch

from gptlab.batch import IGNORE_INDEX, Batch
from gptlab.config.build import build
from gptlab.config.compose import compose_config
from gptlab.data.answers import Part
from gptlab.data.prepared import Rows
from gptlab.run import Run

DEFAULTS = ["head=instruction", "data=instructions", "tokenizer=gpt2", "data.learn=all", "model.context_length=512"]


def batches(rows: Rows, batch_rows: int) -> list[Batch]:
    """One epoch's."""
    order = rows.epoch(np.random.default_rng(0), batch_rows)
    return [rows[part] for part in np.split(order, range(batch_rows, len(order), batch_rows))]


def seconds(run: Run, epoch: list[Batch], context: Any) -> float:
    """Of learning from each batch, without the optimizer's step."""
    start = perf_counter()
    for batch in epoch:
        with context():
            loss = run.head.loss(run.model(batch["ids"], segments=batch.get("segments")), batch)
        loss.total.backward()
        run.model.zero_grad()
    return perf_counter() - start


def main(words: list[str]) -> None:
    """Prints a line a way."""
    from gptlab.opened import set_precision

    n_rounds = next((int(word.partition("=")[2]) for word in words if word.startswith("rounds=")), 3)
    cfg = compose_config("train", DEFAULTS + [word for word in words if not word.startswith("rounds=")])
    run = Run.compose(cfg)
    run.model.train()
    context = set_precision(run, "auto").context
    part: Part = run.data.parts["train"]  # type: ignore[union-attr]
    size, T = cfg.data.batch_size, cfg.model.context_length
    tokens_a_batch = size * part.n_tokens / len(part.rows)
    cfg.data.packing = True
    packed = build(cfg.data).prepare(run.tokenizer, context_length=T, style=build(cfg.prompt)).train
    ways = {
        "side by side": batches(part.padded(by_length=False), size),
        "by length": batches(part.padded(by_length=True), size),
        "packed": batches(packed, max(1, round(tokens_a_batch / T))),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(n_rounds):
        for name, epoch in ways.items():
            times[name].append(seconds(run, epoch, context))
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, batches of {size}, {n_rounds} rounds, the best"
    )
    for name, epoch in ways.items():
        scored = sum(int((batch["targets"] != IGNORE_INDEX).sum()) for batch in epoch)
        read = sum(batch["ids"].numel() for batch in epoch)
        rate, base = scored / min(times[name]), scored / min(times["side by side"])
        print(
            f"{name:<13} {rate:9,.0f} scored tokens/s, {rate / base:.2f} times; {1 - part.n_tokens / read:.1%} padding"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
