"""What Lightning and our callbacks cost a step: `train.py`'s loop against a plain one around the same model.

python -m tests.benchmarks.loop [text=my.txt] [steps=400] [rounds=7] [output=json] [overrides of train.py]

A model so small that the loop's own time is seen. Both read the same batches and take the same steps, in turns; the
first tenth of the steps is not counted. No checkpoint falls within them.
"""

import os
import sys
import tempfile
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader

from gptlab.commands import train
from gptlab.config.build import build
from gptlab.config.compose import compose_config
from gptlab.data.order import TrainOrder
from gptlab.run import Run
from gptlab.training.precision import autocast, choose_precision
from tests.benchmarks.measure import given, lower_quartile, machine, ratio, report

SMALL = ["data=text", "tokenizer=char", "model=tiny", "model.emb_dim=32", "model.n_layers=1", "data.batch_size=4"]


class Clock(L.Callback):
    """Reads the clock at the beginning of each step."""

    times: ClassVar[list[float]] = []

    def on_train_batch_start(self, *_: Any) -> None:
        """Lightning calls it."""
        self.times.append(perf_counter())


def lightnings(words: list[str], folder: str) -> list[float]:
    """When each step of `train.py` began."""
    from tests.benchmarks.loop import Clock  # the one that the configuration names, not that of __main__

    Clock.times.clear()
    clock = "+callbacks.clock._target_=tests.benchmarks.loop.Clock"
    with redirect_stdout(StringIO()):
        train.main([*words, clock, f"output_dir={folder}"])
    return list(Clock.times)


def plain(words: list[str], n_steps: int) -> list[float]:
    """When each step of a plain loop began: the same model, batches, precision, clipping, optimizer and schedule."""
    run = Run.compose(compose_config("train", words))
    cfg, data = run.cfg, run.data
    assert data is not None
    parts = nn.ModuleDict({"model": run.model, "head": run.head}).train()
    optimizer = build(cfg.optim)(parts.named_parameters())
    rate = build(cfg.schedule)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, total_steps=n_steps))
    precision = choose_precision(cfg.trainer.precision, "cpu")
    what: dict[str, Any] = {"n_batches": n_steps, "start": 0, "rank": 0, "world_size": 1, "seed": cfg.seed}
    order = TrainOrder(data.train, batch_size=data.batch_size, **what)
    times = []
    for batch in DataLoader(data.train, sampler=order, batch_size=None):  # type: ignore[arg-type]
        times.append(perf_counter())
        with autocast(precision, "cpu"):
            loss = run.head.loss(run.model(batch["ids"]), batch)
        (loss.total / loss.count).backward()
        nn.utils.clip_grad_norm_(parts.parameters(), cfg.trainer.gradient_clip_val)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
    return times


def main(words: list[str]) -> None:
    """Prints a row a loop, and what is between them."""
    os.environ["GPTLAB_TRUST"] = "tests"
    options, words = given(words, text=None, steps=400, rounds=7, output="table")
    n_steps = options["steps"]
    seconds: dict[str, list[float]] = {"plain loop": [], "train.py": []}
    with tempfile.TemporaryDirectory() as name:
        text = Path(options["text"] or Path(name) / "text.txt")
        if options["text"] is None:
            text.write_text("It was the best of times, it was the worst of times.\n" * 2000, encoding="utf-8")
        more = ["trainer.max_steps=" + str(n_steps), "trainer.val_check_interval=null"]
        more += [f"callbacks.checkpoint.every_n_train_steps={n_steps + 1}"]
        words = [*SMALL, f"data.path={text}", *more, *words]
        for i in range(1 + options["rounds"]):
            times = {"plain loop": plain(words, n_steps), "train.py": lightnings(words, f"{name}/{i}")}
            for way, read in times.items():
                counted = read[n_steps // 10 :]
                if i:
                    seconds[way].append((counted[-1] - counted[0]) / (len(counted) - 1))
    rows = [{"loop": way, "ms a step": 1000 * lower_quartile(each)} for way, each in seconds.items()]
    between = [1000 * (ours - theirs) for ours, theirs in zip(seconds["train.py"], seconds["plain loop"], strict=True)]
    report(
        "the loop",
        rows,
        output=options["output"],
        difference=f"{sorted(between)[len(between) // 2]:.2f} ms a step, {min(between):.2f} to {max(between):.2f}",
        ratio="{:.2f} +- {:.2f}".format(*ratio(seconds, "plain loop", "train.py")),
        steps=n_steps,
        machine=machine("lightning"),
        rounds=options["rounds"],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
