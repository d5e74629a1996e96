"""What the benchmarks share: ways that take turns, the machine's ceilings beside them, one table or one object."""

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
    """Seconds of each call, way by way: every round calls each once, so that a slow minute slows all of them.

    Every other round goes backwards: what a way leaves behind, in caches and in the kernel's free memory, is not always
    left to the same one.

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
    """A quarter of the rounds were this fast or faster: what the work costs when little else runs."""
    return statistics.quantiles(seconds, n=4, method="inclusive")[0] if len(seconds) > 1 else seconds[0]


def ratio(seconds: Mapping[str, list[float]], ours: str, theirs: str) -> tuple[float, float]:
    """How many times as fast ours is, by the lower quartiles, and the noise of that.

    The noise is half of what the middle half of the rounds' own ratios spans.
    """
    by_round = [t / o for o, t in zip(seconds[ours], seconds[theirs], strict=True)]
    noise = 0.0
    if len(by_round) > 1:
        first, _, last = statistics.quantiles(by_round, n=4, method="inclusive")
        noise = (last - first) / 2
    return lower_quartile(seconds[theirs]) / lower_quartile(seconds[ours]), noise


def ratios(seconds: Mapping[str, list[float]], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """`ratio` of each pair, ours and theirs, as one reads it."""
    found = {f"{ours} / {theirs}": ratio(seconds, ours, theirs) for ours, theirs in pairs}
    return {pair: f"{times:.2f} +- {noise:.2f}" for pair, (times, noise) in found.items()}


def formats() -> dict[str, torch.dtype]:
    """The number formats to compare in: bfloat16 only where it is not emulated, many times slower."""
    both = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    return both if choose_precision("auto", "cpu") == "bf16-mixed" else {"float32": torch.float32}


def ceilings(device: str = "cpu") -> dict[str, float]:
    """What the machine can do at most, now: matrix products in GFLOP/s and copies in GB/s, the best of some."""
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
    """MB: `VmRSS` now, `VmHWM` at most."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024


class Apart:
    """A way in a process of its own: its memory and the process's settings are no other's.

    Args:
        make: called with `words` in that process, where nothing else runs; gives the call that is measured. It is
            found again by its name there, so it is a function of a module.
    """

    def __init__(self, make: Callable[..., Callable[[], float]], *words: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, make, words), daemon=True)
        self.process.start()
        theirs.close()
        self.pipe.recv()  # made

    def __call__(self) -> float:
        """One call there; what it gave."""
        self.pipe.send("go")
        return float(self.pipe.recv())

    def peak(self) -> float:
        """MB: the most it has held until now, above what it held before it was made."""
        self.pipe.send("peak")
        return float(self.pipe.recv())

    def end(self) -> None:
        """Gives its memory back."""
        self.pipe.send("end")
        self.process.join()


class Found(NamedTuple):
    """What a way came to in a process of its own."""

    first: float  # what its first call gave
    seconds: list[float]
    peak: float  # MB


def in_turns(ways: Mapping[str, Apart], *, rounds: int) -> dict[str, Found]:
    """Ways that have a process each, called in turns after a first call; then they end."""
    first = {name: way() for name, way in ways.items()}
    seconds = take_turns(ways, rounds=rounds)
    found = {name: Found(first[name], seconds[name], way.peak()) for name, way in ways.items()}
    for way in ways.values():
        way.end()
    return found


def pooled(runs: list[dict[str, Found]]) -> dict[str, Found]:
    """Several runs of the same ways as one: a process keeps the memory it was lucky to get, or not, to its end."""
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
    """Where this was measured, and with which versions."""
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", *packages)},
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }


def report(title: str, rows: Iterable[Mapping[str, Any]], *, output: str, **facts: Any) -> None:
    """One table, and the facts under it; `json`: one object of `rows` and the facts."""
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
        said = ", ".join(f"{k} {shown(v)}" for k, v in fact.items()) if isinstance(fact, dict) else shown(fact)
        console.print(f"{name}: {said}", highlight=False)


def shown(value: Any) -> str:
    """A number as one reads it."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def given(words: list[str], **defaults: Any) -> tuple[dict[str, Any], list[str]]:
    """The key=value words that the benchmark knows, typed as their defaults are, and the words that are left."""
    known, left = dict(defaults), []
    for word in words:
        key, _, value = word.partition("=")
        if key in defaults:
            known[key] = value if defaults[key] is None else type(defaults[key])(value)
        else:
            left.append(word)
    return known, left
