"""What a run's dashboard costs: curves, texts, samples and questions, against a run that shows nothing.

python -m tests.benchmarks.dashboard [text=my.txt] [rounds=5] [output=json] [overrides of train.py]

The default run, half as long and on a text of yours, in one process and in turns: with the default callbacks and
TensorBoard; with TensorBoard's curves alone; and with neither. The time is that of the whole fit, validations and
checkpoints included, which all of them have; the ratio is that of a round's two runs.
"""

import os
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from io import StringIO
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar

import lightning as L
import numpy as np

from gptlab.commands import train
from tests.benchmarks.measure import given, lower_quartile, machine, report, take_turns

RUN = ["data=text", "trainer.max_steps=110", "final_evaluation=false"]
SHOWN = ("run_info", "probes", "samples", "forgetting", "prediction_plots", "histograms", "projector")  # callbacks
NEITHER, CURVES, ALL = "neither", "curves alone", "default callbacks and TensorBoard"


class Clock(L.Callback):
    """Time the fit, which begins before every callback's first hook and ends after the last one's."""

    seconds: ClassVar[float]  # of the latest fit

    def __init__(self) -> None:
        self.began = 0.0

    def on_fit_start(self, *_: Any) -> None:
        """Start the clock."""
        self.began = perf_counter()

    def on_fit_end(self, *_: Any) -> None:
        """Stop the clock."""
        Clock.seconds = perf_counter() - self.began


def interval(ratios: list[float]) -> str:
    """Return the median of the rounds' ratios and its 95 % interval, from resampling the rounds."""
    draws = np.random.default_rng(0).choice(ratios, (2000, len(ratios)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    return f"{np.median(ratios):.4f}, {low:.4f} to {high:.4f}"


def main(words: list[str]) -> None:
    """Print a row per way, and its time as a multiple of the run's that shows nothing."""
    from tests.benchmarks.dashboard import Clock  # the class that the configuration names, not that of __main__

    os.environ["GPTLAB_TRUST"] = "tests"
    options, words = given(words, text=None, rounds=5, output="table")
    off = [f"callbacks.{name}=null" for name in SHOWN]
    ways = {NEITHER: ["logger=none", *off], CURVES: ["logger=tensorboard", *off], ALL: ["logger=tensorboard"]}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder:
        text, number = Path(options["text"] or Path(folder) / "text.txt"), count()
        if options["text"] is None:
            line = "It was the {} of times, it was the {} of {}.\n".format
            nouns = ("best", "worst", "age", "season", "winter", "spring", "light")
            lines = (line(a, b, c) for a in nouns for b in nouns for c in nouns)
            text.write_text("\n".join(lines) * 20, encoding="utf-8")

        def fit(name: str) -> None:
            clock = "+callbacks.clock._target_=tests.benchmarks.dashboard.Clock"
            run = [*RUN, f"data.path={text}", *words, *ways[name], clock, f"output_dir={folder}/{next(number)}"]
            with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                train.main(run)
            seconds[name].append(Clock.seconds)

        take_turns({name: partial(fit, name) for name in ways}, rounds=options["rounds"])
    counted = {name: each[1:] for name, each in seconds.items()}  # the first round warms up
    rows = [{"way": name, "seconds": lower_quartile(each)} for name, each in counted.items()]
    ratios = {
        f"{name} / {NEITHER}": interval([o / t for o, t in zip(counted[name], counted[NEITHER], strict=True)])
        for name in (CURVES, ALL)
    }
    report(
        "the dashboard",
        rows,
        output=options["output"],
        **ratios,
        machine=machine("lightning"),
        rounds=options["rounds"],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
