"""The scaling law of a sweep: the fit, its picture and its report."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptlab.config.plain import Config
from gptlab.errors import UserError
from gptlab.insight.scaling.fit import Fit, check_scipy, fit_law
from gptlab.insight.scaling.law import Points
from gptlab.insight.scaling.verdict import (
    describe_fit,
    describe_optimum,
    few_runs,
    short_number,
    short_spans,
    too_far,
    undetermined,
    without_effect,
)
from gptlab.storage.atomic import atomic_replace, atomic_write
from gptlab.sweeps.points import COLUMNS, Sample, read_sweeps, read_table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

SECONDS_PER_HOUR = 3600
MAX_EPOCHS_AS_NEW = 1.01  # epochs up to which every token counts as read once


def scaling_report(cfg: Config) -> dict[str, Any]:
    """Fit the law of the chosen runs, write its picture, and return the report.

    Raises:
        UserError: there are too few runs, or both a number of operations and of hours is given.
    """
    check_scipy()
    if cfg.flops is not None and cfg.hours is not None:
        raise UserError(f"flops={cfg.flops:g} and hours={cfg.hours:g} are two budgets: give one")
    sample = _read_points(cfg)
    points = sample.arrays()
    if few := few_runs(points):
        counted = "".join(f"; left out: {count} {why}" for why, count in sample.left_out.items())
        raise UserError(f"{few}{counted}")
    fit = fit_law(points, n_resamples=cfg.n_resamples, seed=cfg.seed)
    flops, basis = _budget(cfg, sample, fit)
    refusals = short_spans(points) or without_effect(fit) or undetermined(fit)
    refusals = refusals or too_far(fit.law.optimum(flops), points)
    report = {
        "folder": str(sample.folder),
        "jobs": sample.n_jobs,
        "source": "jobs" if cfg.points is None else "rows",
        "runs": len(points.loss),
        "left_out": sample.left_out,
        "counted": cfg.counted,
        "ranges": _ranges(sample, points),
        **describe_fit(fit),
        "budget": basis,
        "optimum": None if refusals else describe_optimum(fit, flops),
        "refusals": refusals,
        "points": [
            point._asdict() | {"residual": float(r)} for point, r in zip(sample.points, fit.residuals, strict=True)
        ],
    }
    report["remarks"] += [*_outside(report["optimum"]), *_epochs_remark(sample)]
    return report | {"files": _write(fit, report, sample.folder, flops=None if refusals else flops)}


def _read_points(cfg: Config) -> Sample:
    """Return the points of `run=`, one sweep or several, or of `points=`.

    Raises:
        UserError: neither or both are given, or the file has a fault.
    """
    if (cfg.run is None) == (cfg.points is None):
        raise UserError(
            "give the sweep to fit with run=outputs/sweeps/..., run=last for the newest one, or points=FILE.csv with "
            f"the columns {', '.join(COLUMNS)}"
        )
    if cfg.points is not None:
        return read_table(Path(cfg.points).expanduser())
    return read_sweeps(cfg.run if isinstance(cfg.run, list) else [cfg.run], counted=cfg.counted)


def _budget(cfg: Config, sample: Sample, fit: Fit) -> tuple[float, str]:
    """Return the budget in operations, and where it comes from.

    Raises:
        UserError: hours are given, and the points have no times.
    """
    if cfg.flops is not None:
        return float(cfg.flops), ""
    if cfg.hours is None:
        return float(fit.points.flops.max()), ", as the largest run"
    rates = {point.parameters: point.flops_per_second for point in sample.points if point.flops_per_second}
    if not rates:
        raise UserError(f"hours={cfg.hours:g}: the points have no times: give the budget with flops=")
    size = max(rates)
    for _ in range(len(rates)):  # the rate depends on the size, and the best size on the rate
        rate = rates[size]
        best = fit.law.optimum(rate * cfg.hours * SECONDS_PER_HOUR).parameters
        best = min(max(best, min(rates)), max(rates))  # a law that means nothing may have its best at 0 or infinity
        size = min(rates, key=lambda n: abs(math.log(n / best)))
    speed = f"{rates[size]:.2g} FLOP/s, as measured with {short_number(size)} parameters"
    basis = f": {cfg.hours:g} h of training steps at {speed}"
    return rates[size] * cfg.hours * SECONDS_PER_HOUR, basis


def _ranges(sample: Sample, points: Points) -> dict[str, list[float] | None]:
    """Return the least and the most of what was measured."""

    def ends(values: Iterable[Any]) -> list[float] | None:
        known = [float(value) for value in values if value is not None]
        return [min(known), max(known)] if known else None

    return {
        **{name: ends(values) for name, values in zip(COLUMNS, points, strict=True)},
        "flops": ends(points.flops),
        "epochs": ends(point.epochs for point in sample.points),
        "exact_flops_over_6nd": ends(point.flops_ratio for point in sample.points),
    }


def _epochs_remark(sample: Sample) -> list[str]:
    """Return a sentence if runs read their text more than once."""
    repeated = [point.epochs for point in sample.points if point.epochs and point.epochs > MAX_EPOCHS_AS_NEW]
    if not repeated:
        return []
    return [
        f"{len(repeated)} of {len(sample.points)} runs read their text more than once, up to {max(repeated):.1f} "
        "times: the law counts a repeated token as a new one, which is about right up to four times (arXiv 2305.16264)"
    ]


def _outside(optimum: dict[str, Any] | None) -> list[str]:
    """Return a sentence for each of N and D that the best size extrapolates."""
    beyond = optimum["outside"] if optimum else {}
    return [f"the best {name} lies {factor:.1f} times outside the measured range" for name, factor in beyond.items()]


def _write(fit: Fit, report: dict[str, Any], folder: Path, *, flops: float | None) -> list[str]:
    """Write the picture and the report beside the sweep; return their paths."""
    from gptlab.insight.scaling.picture import draw_fit

    picture, table = folder / "scaling.png", folder / "scaling.json"
    with atomic_replace(picture) as temporary:
        draw_fit(fit, flops=flops).savefig(temporary, format="png")
    atomic_write(table, json.dumps(report, indent=2) + "\n")
    return [str(picture), str(table)]


def show_scaling(report: dict[str, Any], console: "Console") -> None:
    """Print the law, the best size for the budget, and what to beware of."""
    from gptlab.console import print_text

    left_out = "".join(f"; left out: {count} {why}" for why, count in report["left_out"].items())
    print_text(f"{report['runs']} points from {report['jobs']} {report['source']}{left_out}", console)
    print_text("\nL(N, D) = E + A / N^alpha + B / D^beta", console)
    console.print(_table(report["law"]), highlight=False)
    print_text("\n".join(_measured_lines(report)), console)
    if best := report["optimum"]:
        print_text(f"\nBest for {best['flops']:.3g} FLOPs{report['budget']}", console)
        names = {"parameters": "N, parameters", "tokens": "D, tokens", "tokens_per_parameter": "D / N", "loss": "loss"}
        rows = {title: best[name] for name, title in names.items()}
        console.print(_table(rows | {"N grows as FLOPs to the power": best["exponent"]}), highlight=False)
    notes = [f"No compute-optimal size: {sentence}" for sentence in report["refusals"]]
    notes += [f"Note: {sentence}" for sentence in report["remarks"]]
    for note in notes:
        print_text(note, console, style="yellow")
    print_text("\n" + "\n".join(report["files"]), console)


def _table(numbers: dict[str, dict[str, float]]) -> "Table":
    """Return a table of numbers with their intervals."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    for column in ("", "value", "95 % interval"):
        table.add_column(column, justify="right" if column else "left")
    for name, number in numbers.items():
        value, low, high = (short_number(number[end]) for end in ("value", "low", "high"))
        table.add_row(name, value, f"{low} to {high}")
    return table


def _measured_lines(report: dict[str, Any]) -> list[str]:
    """Return what was measured, and how well the law fits it."""
    ranges, residuals = report["ranges"], report["residuals"]

    def ends(name: str) -> str:
        return " to ".join(map(short_number, ranges[name]))

    kinds = {"all": "all parameters, embeddings too", "non_embedding": "the parameters without embeddings"}
    kind = kinds[report["counted"]] if report["source"] == "jobs" else "parameters as the table counts them"
    lines = [
        f"Misses the measured losses by {residuals['rms']:.2%} (root mean square), at most {residuals['largest']:.2%}",
        f"N, {kind}: {ends('parameters')}",
        f"D, tokens read: {ends('tokens')}" + (f", {ends('epochs')} epochs" if ranges["epochs"] else ""),
        f"FLOPs, 6 N D: {ends('flops')}",
    ]
    if exact := ranges["exact_flops_over_6nd"]:
        lines[-1] += f"; counted exactly, with attention, {exact[0]:.2f} to {exact[1]:.2f} times as many"
    return lines
