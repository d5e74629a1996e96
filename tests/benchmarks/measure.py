"""Shared parts of the benchmarks: alternating runs, the machine's peak, and the report."""

import json
import multiprocessing
import os
import platform
import statistics
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table

from gptlab.hardware.peak import measure_peak
from gptlab.hardware.precision import choose_precision


def take_turns(ways: Mapping[str, Callable[[], object]], *, rounds: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Return each way's seconds per call, alternating between the ways.

    Every round calls each once, so that a slow minute slows all of them. Every other round runs backwards, so that the
    caches and free memory that one way leaves are not always left to the same other one.

    Args:
        warm_up: rounds that are not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for i in range(warm_up + rounds):
        for name, way in list(ways.items())[:: -1 if i % 2 else 1]:
            start = perf_counter()
            way()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if i >= warm_up:
                seconds[name].append(perf_counter() - start)
    return seconds


def lower_quartile(seconds: list[float]) -> float:
    """Return the lower quartile: the time of the work when little else runs."""
    return statistics.quantiles(seconds, n=4, method="inclusive")[0] if len(seconds) > 1 else seconds[0]


def ratio(seconds: Mapping[str, list[float]], ours: str, theirs: str) -> tuple[float, float]:
    """Return how many times as fast ours is, and the noise of that.

    The ratio is of lower quartiles. The noise is half of the interquartile range of the rounds' own ratios.
    """
    by_round = [t / o for o, t in zip(seconds[ours], seconds[theirs], strict=True)]
    noise = 0.0
    if len(by_round) > 1:
        first, _, last = statistics.quantiles(by_round, n=4, method="inclusive")
        noise = (last - first) / 2
    return lower_quartile(seconds[theirs]) / lower_quartile(seconds[ours]), noise


def ratios(seconds: Mapping[str, list[float]], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Format `ratio` of each pair."""
    found = {f"{ours} / {theirs}": ratio(seconds, ours, theirs) for ours, theirs in pairs}
    return {pair: f"{times:.2f} +- {noise:.2f}" for pair, (times, noise) in found.items()}


def formats() -> dict[str, torch.dtype]:
    """Return the number formats to compare; bfloat16 only if the CPU does not emulate it."""
    both = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    return both if choose_precision("auto", "cpu") == "bf16-mixed" else {"float32": torch.float32}


def ceilings(device: str = "cpu") -> dict[str, float]:
    """Measure the machine's peak: matrix products in GFLOP/s and copies in GB/s."""
    found = {
        f"{name} products, GFLOP/s": measure_peak(torch.device(device), dtype) / 1e9
        for name, dtype in formats().items()
    }
    source = torch.ones(64 * 2**20, device=device)
    target = torch.empty_like(source)
    best = min(take_turns({"copy": lambda: target.copy_(source)}, rounds=5)["copy"])
    found["copies, read and written, GB/s"] = 2 * source.nbytes / best / 1e9
    return found


def resident(key: str) -> float:
    """Return resident memory in MB: `VmRSS` is the current, `VmHWM` the peak."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024


class Apart:
    """A way in its own process, with its own memory and settings.

    Args:
        make: called with `words` in that process; returns the function to measure. It has to be a function of a
            module, since the process imports it by name.
    """

    def __init__(self, make: Callable[..., Callable[[], float]], *words: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, make, words), daemon=True)
        self.process.start()
        theirs.close()
        self.pipe.recv()  # made

    def __call__(self) -> float:
        """Call the way once and return its result."""
        self.pipe.send("go")
        return float(self.pipe.recv())

    def peak(self) -> float:
        """Return the peak memory in MB, above that before the way was made."""
        self.pipe.send("peak")
        return float(self.pipe.recv())

    def end(self) -> None:
        """End the process, which frees its memory."""
        self.pipe.send("end")
        self.process.join()


class Found(NamedTuple):
    """Results of a way in its own process."""

    first: float  # result of its first call
    seconds: list[float]
    peak: float  # MB


def in_turns(ways: Mapping[str, Apart], *, rounds: int) -> dict[str, Found]:
    """Measure ways in their own processes, alternating, and end them."""
    first = {name: way() for name, way in ways.items()}
    seconds = take_turns(ways, rounds=rounds)
    found = {name: Found(first[name], seconds[name], way.peak()) for name, way in ways.items()}
    for way in ways.values():
        way.end()
    return found


def pooled(runs: list[dict[str, Found]]) -> dict[str, Found]:
    """Pool several runs of the same ways, because the memory that a process gets decides its speed to its end."""
    return {
        name: Found(
            found.first,
            [second for run in runs for second in run[name].seconds],
            max(run[name].peak for run in runs),
        )
        for name, found in runs[0].items()
    }


def _serve(pipe: Connection, make: Callable[..., Callable[[], float]], words: tuple[Any, ...]) -> None:
    before = resident("VmRSS")
    way = make(*words)
    pipe.send("made")
    while (word := pipe.recv()) != "end":
        pipe.send(way() if word == "go" else resident("VmHWM") - before)


def machine(*packages: str) -> dict[str, Any]:
    """Return the facts about the machine and the versions."""
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", *packages)},
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }


def report(title: str, rows: Iterable[Mapping[str, Any]], *, output: str, **facts: Any) -> None:
    """Print one table with the facts under it, or one JSON object."""
    rows = list(rows)
    if output == "json":
        print(json.dumps({"benchmark": title, "rows": rows, **facts}))
        return
    table = Table(title=title)
    for column in rows[0]:
        table.add_column(column, justify="left" if isinstance(rows[0][column], str) else "right")
    for row in rows:
        table.add_row(*(shown(value) for value in row.values()))
    console = Console()
    console.print(table)
    for name, fact in facts.items():
        text = ", ".join(f"{k} {shown(v)}" for k, v in fact.items()) if isinstance(fact, dict) else shown(fact)
        console.print(f"{name}: {text}", highlight=False)


def shown(value: Any) -> str:
    """Format a value for reading."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def given(words: list[str], **defaults: Any) -> tuple[dict[str, Any], list[str]]:
    """Split words into the benchmark's own, typed as their defaults, and the rest."""
    known, left = dict(defaults), []
    for word in words:
        key, _, value = word.partition("=")
        if key in defaults:
            known[key] = value if defaults[key] is None else type(defaults[key])(value)
        else:
            left.append(word)
    return known, left
