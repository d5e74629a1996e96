"""The plan of a run, for reading."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gptlab.console import printable
from gptlab.training.planning.estimate import show_bytes, show_seconds

SMALL = 0.005  # of the memory; smaller parts are not shown
PREFIXES = ((1e21, "Z"), (1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))  # of FLOP


def render(plan: Mapping[str, Any]) -> RenderableType:
    """Return a plan as tables and lines."""
    run, here = plan["run"], plan["here"]
    parts: list[RenderableType] = [
        _heading(printable(plan["name"])),
        _lines({"parameters": _parameters(plan["parameters"]), "arithmetic": _arithmetic(run), "length": _length(run)}),
        _heading(_machine(here)),
        _lines({"time": _time(here, run), "memory": _memory(here), "disk": _disk(here)}),
        _heading(f"On {run['devices']} GPU{'s' * (run['devices'] > 1)}"),
        _gpus(plan),
    ]
    if plan["changes"]:
        parts += [_heading("What takes less memory"), _changes(plan["changes"])]
    parts += [Text(), *(Text(f"{note[0].upper()}{note[1:]}", style="dim") for note in _notes(plan))]
    return Group(*parts)


def _heading(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _lines(rows: Mapping[str, Sequence[str]]) -> Table:
    """Return names with lines of text beside them."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(min_width=10)
    grid.add_column(overflow="fold")
    for name, lines in rows.items():
        for number, line in enumerate(lines):
            grid.add_row("" if number else name, Text(line))
    return grid


def _parameters(found: Mapping[str, int]) -> list[str]:
    learning = found["trainable"]
    share = "all trained" if learning == found["all"] else f"{learning:,} trained ({learning / found['all']:.2%})"
    head = f"head {found['head']:,}" if found["head"] else "none of the head's own"
    return [f"{found['all']:,}, {share}", f"embedding {found['embedding']:,}, blocks {found['blocks']:,}, {head}"]


def _arithmetic(run: Mapping[str, Any]) -> list[str]:
    return [f"{show_flops(run['flops_per_token'])} a token, forward and backward; {show_flops(run['flops'])} in all"]


def _length(run: Mapping[str, Any]) -> list[str]:
    division = f"{run['rows_per_micro_batch']:,} rows"
    if run["micro_batches_per_step"] > 1:
        division += f" x {run['micro_batches_per_step']:,} micro-batches"
    if run["devices"] > 1:
        division += f" x {run['devices']:,} devices"
    left = f", after {run['steps_done']:,} done" if run["steps_done"] else ""
    return [
        f"{run['steps']:,} steps of {run['tokens_per_step']:,} tokens ({division}){left}",
        f"{run['tokens']:,} tokens, {run['epochs']:.3g} epochs",
        f"{run['tokens_per_parameter']:.3g} tokens per parameter; a compute-optimal run from random weights has "
        f"about {run['tokens_per_parameter_chinchilla']} (Chinchilla)",
    ]


def _machine(here: Mapping[str, Any]) -> str:
    threads = f", {here['threads']} thread{'s' * (here['threads'] > 1)}" if here["device"] == "cpu" else ""
    return f"Here: {here['device']}{threads}, {here['precision']}"


def _time(here: Mapping[str, Any], run: Mapping[str, Any]) -> list[str]:
    split, probe = here["seconds_split"], here["probe"]
    words = {"training": "training", "validation": f"{run['validations']} validations", "samples": "samples"}
    words["final_evaluation"] = "final evaluation"
    shown = ", ".join(f"{word} {show_seconds(split[name])}" for name, word in words.items() if split[name] >= 0.5)
    passes = f"{probe['micro_batches']} micro-batch{'es' * (probe['micro_batches'] != 1)}"
    return [
        f"about {show_seconds(here['seconds'])}: {shown}",
        f"{here['tokens_per_second']:,.0f} tokens a second in training, {here['mfu']:.0%} of the peak (MFU)",
        f"from {probe['seconds']:.1f} s of measuring: {passes} of {probe['rows']:,} rows",
    ]


def _memory(here: Mapping[str, Any]) -> list[str]:
    total, free = here["memory_bytes"], here["free_memory_bytes"]
    room = "" if free is None else f"; {show_bytes(free)} are free, {show_bytes(here['more_memory_bytes'])} more wanted"
    verdict = "fits" if here["fits"] else "DOES NOT FIT"
    return [f"{show_bytes(total)} at the peak: {verdict}{room}", _split(here["memory_split_bytes"])]


def _split(parts: Mapping[str, int]) -> str:
    total = sum(parts.values())
    return ", ".join(f"{name} {show_bytes(size)}" for name, size in parts.items() if size > SMALL * total)


def _disk(here: Mapping[str, Any]) -> list[str]:
    full = "" if here["fits_on_disk"] else ": DOES NOT FIT"
    sizes = f"{show_bytes(here['disk_bytes'])} for checkpoints, the largest {show_bytes(here['checkpoint_bytes'])}"
    return [f"{sizes}; {show_bytes(here['free_disk_bytes'])} are free{full}"]


def _gpus(plan: Mapping[str, Any]) -> Table:
    low, high = plan["assumptions"]["mfu"]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for column in ("", "memory", "needs", "fits", f"time at {high:.0%} to {low:.0%} MFU", "precision"):
        table.add_column(column, justify="right" if column in ("memory", "needs") else "left")
    for gpu in plan["gpus"]:
        number = gpu["fits_with_change"]
        fits = "yes" if gpu["fits"] else "no" if number is None else f"with {number + 1}"
        table.add_row(
            gpu["gpu"],
            show_bytes(gpu["memory_bytes"]).replace(".0 ", " "),
            show_bytes(gpu["needed_bytes"]),
            Text(fits, style="" if gpu["fits"] else "red"),
            _range(gpu["seconds_low"], gpu["seconds_high"]),
            gpu["precision"],
        )
    return table


def _range(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "no units for the format"
    first, last = show_seconds(low), show_seconds(high)
    return first if first == last else f"{first} to {last}"


def _changes(changes: Sequence[Mapping[str, Any]]) -> Table:
    precisions = list(changes[0]["memory_bytes_on_gpu"])
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for column in ("", "add", "here", *(f"GPU, {name}" for name in precisions), "result"):
        table.add_column(column, justify="left" if column in ("", "add", "result") else "right", overflow="fold")
    for number, change in enumerate(changes, start=1):
        on_gpus = (show_bytes(change["memory_bytes_on_gpu"][name]) for name in precisions)
        result = f"the same; {change['cost']}" if change["keeps_result"] else f"another: {change['cost']}"
        table.add_row(str(number), change["change"], show_bytes(change["memory_bytes_here"]), *on_gpus, result)
    return table


def _notes(plan: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the numbers rest on, and what they leave out."""
    assumed = plan["assumptions"]
    low, high = assumed["mfu"]
    several = f", {assumed['scaling_of_several_devices']:.0%} of it with several" if plan["run"]["devices"] > 1 else ""
    yield (
        f"times on GPUs are arithmetic over the data sheet's peak: {low:.0%} to {high:.0%} of it is assumed{several}, "
        f"and at least {1000 * assumed['launch_seconds_per_layer_and_micro_batch']:g} ms a layer and micro-batch; "
        f"samples and loading are left out. Of the memory, {assumed['usable_fraction_of_memory']:.0%} can be used"
    )
    yield from plan["notes"]
    slow = [gpu["gpu"] for gpu in plan["gpus"] if gpu["precision"] == "32-true"]
    if 0 < len(slow) < len(plan["gpus"]):
        yield f"{', '.join(slow)} have no bfloat16; trainer.precision=16-mixed uses their units for float16"


def show_flops(flops: float) -> str:
    """Return a number of operations in words."""
    factor, prefix = next(((factor, prefix) for factor, prefix in PREFIXES if flops >= factor), (1.0, ""))
    return f"{flops / factor:.3g} {prefix}FLOP"
