"""Overhead per step of Lightning and our callbacks, against a plain loop around the same model.

python -m tests.benchmarks.loop [text=my.txt] [steps=3000] [output=json] [overrides of train.py]

The model is so small that the loop's own time shows. In one process, the two alternate within one run of `train.py`:
some of its own steps, then as many of a plain loop with an equal model, batches and optimizer. No checkpoint is
written meanwhile.
"""

import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar

import lightning as L
import torch
from torch import nn

from gptlab.commands import train
from gptlab.config.build import build
from gptlab.config.compose import compose_config
from gptlab.data.samplers import TrainSampler
from gptlab.hardware.precision import autocast, choose_precision
from gptlab.run import Run
from tests.benchmarks.measure import given, lower_quartile, machine, ratio, report

SMALL = ["data=text", "tokenizer=char", "model=tiny", "model.emb_dim=32", "model.n_layers=1", "data.batch_size=4"]
COLD, COUNTED = 5, 20  # steps of a turn: the first find the caches full of the other loop; `log_every_n_steps` is 10


class Turns(L.Callback):
    """Alternate between Lightning's steps and the plain loop's, and time both."""

    plain: ClassVar[Iterator[None]]
    seconds: ClassVar[dict[str, list[float]]]  # a step, the mean of each turn

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_start(self, *_: Any) -> None:
        """Time a step, from one call to the next."""
        self.times.append(perf_counter())
        if len(self.times) > COLD + COUNTED:
            ours, theirs = self.times, [perf_counter()]
            for _step in range(COLD + COUNTED):
                next(self.plain)
                theirs.append(perf_counter())
            for way, times in (("train.py", ours), ("plain loop", theirs)):
                self.seconds[way].append((times[-1] - times[COLD]) / COUNTED)
            self.times = [perf_counter()]


def plain(words: list[str], n_steps: int) -> Iterator[None]:
    """Yield steps of a plain loop with the same model, batches, precision, clipping, optimizer and schedule."""
    run = Run.compose(compose_config("train", words))
    cfg, data = run.cfg, run.data
    assert data is not None
    parts = nn.ModuleDict({"model": run.model, "head": run.head}).train()
    optimizer = build(cfg.optim, "optim")(parts.named_parameters())
    rate = build(cfg.schedule, "schedule")
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, total_steps=n_steps))
    precision = choose_precision(cfg.trainer.precision, "cpu")
    options: dict[str, Any] = {"n_batches": n_steps, "start": 0, "rank": 0, "world_size": 1, "seed": cfg.seed}
    order = TrainSampler(data.train, batch_size=data.batch_size, epoch_rows=len(data.train), **options)
    for index in order:
        batch = data.train[index]
        with autocast(precision, "cpu"):
            loss = run.head.loss(run.model(batch["ids"]), batch)
        (loss.total / loss.count).backward()
        nn.utils.clip_grad_norm_(parts.parameters(), cfg.trainer.gradient_clip_val)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        yield


def main(words: list[str]) -> None:
    """Print a row per loop, and their difference."""
    from tests.benchmarks.loop import Turns  # the class that the configuration names, not that of __main__

    os.environ["GPTLAB_TRUST"] = "tests"
    options, words = given(words, text=None, steps=3000, output="table")
    n_steps = options["steps"]
    with tempfile.TemporaryDirectory() as folder:
        text = Path(options["text"] or Path(folder) / "text.txt")
        if options["text"] is None:
            text.write_text("It was the best of times, it was the worst of times.\n" * 2000, encoding="utf-8")
        more = ["trainer.max_steps=" + str(n_steps), "trainer.val_check_interval=null"]
        more += [f"callbacks.last_checkpoint.every_n_train_steps={n_steps + 1}"]
        words = [*SMALL, f"data.path={text}", *more, *words]
        Turns.plain, Turns.seconds = plain(words, n_steps), {"plain loop": [], "train.py": []}
        with redirect_stdout(StringIO()):
            train.main([*words, "+callbacks.turns._target_=tests.benchmarks.loop.Turns", f"output_dir={folder}/run"])
    seconds = {way: each[2:] for way, each in Turns.seconds.items()}
    rows = [{"loop": way, "ms a step": 1000 * lower_quartile(each)} for way, each in seconds.items()]
    between = [1000 * (ours - theirs) for ours, theirs in zip(seconds["train.py"], seconds["plain loop"], strict=True)]
    first, middle, last = statistics.quantiles(between, n=4, method="inclusive")
    report(
        "the loop",
        rows,
        output=options["output"],
        difference=f"{middle:.2f} ms a step, of half the turns {first:.2f} to {last:.2f}",
        ratio="{:.2f} +- {:.2f}".format(*ratio(seconds, "plain loop", "train.py")),
        machine=machine("lightning"),
        turns=len(between),
        steps_of_a_turn=COUNTED,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
