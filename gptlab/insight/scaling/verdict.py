"""What a fitted law says, and what it does not.

P points, which are runs.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from gptlab.insight.scaling.fit import BOUNDS, MIN_DISTINCT, Fit, enough_distinct
from gptlab.insight.scaling.law import Law, Optimum, Points

MIN_SPAN = 8  # largest / smallest, of sizes and of tokens, below which nothing is extrapolated
MIN_RUNS = 8  # for five unknowns
MAX_OUTSIDE = 10  # times the largest measured size or tokens, or the smallest divided by it
MAX_INTERVAL = MAX_OUTSIDE**2  # largest / smallest end of the best size's interval: an order of magnitude either way
MARGIN = 1.1  # times the measured range that still counts as within it
PERCENTILES = (2.5, 97.5)
COLLINEAR = 0.95  # correlation of log N and log D from which on they are one quantity
ENTANGLED = 0.9  # correlation of the resampled exponents from which on only their combination is known
NAMES = {"parameters": "N", "tokens": "D"}
RANGES = {"parameters": "sizes", "tokens": "lengths"}


def few_runs(points: Points) -> str | None:
    """Return why these runs cannot be fitted at all, else None."""
    n_runs, distinct = len(points.loss), [len(np.unique(values)) for values in (points.parameters, points.tokens)]
    if n_runs >= MIN_RUNS and enough_distinct(points):
        return None
    return (
        f"{n_runs} finished runs of {distinct[0]} sizes and {distinct[1]} numbers of tokens, wanted at least "
        f"{MIN_RUNS} of {MIN_DISTINCT} and {MIN_DISTINCT}: train more, for example with sweep=scaling"
    )


def short_spans(points: Points) -> list[str]:
    """Return a sentence for each of N and D that spans too little to say what lies beyond."""
    return [
        f"{NAMES[name]} spans a factor of {short_number(values.max() / values.min())} ({short_number(values.min())} to "
        f"{short_number(values.max())} {name}), wanted at least {MIN_SPAN}: {remedy}"
        for name, values, remedy in (
            ("parameters", points.parameters, "train smaller or larger models too"),
            ("tokens", points.tokens, "train for shorter or longer too, with trainer.max_steps"),
        )
        if values.max() / values.min() < MIN_SPAN * (1 - 1e-3)
    ]


def without_effect(fit: Fit) -> list[str]:
    """Return a sentence for each of N and D whose exponent ended at a bound of the fit: no power law was found."""
    found = []
    for name, exponent in (("parameters", "alpha"), ("tokens", "beta")):
        value, (low, high) = getattr(fit.law, exponent), BOUNDS[exponent]
        if not low * 1.01 < value < high * 0.99:
            found.append(
                f"the loss of these runs follows no power law in {NAMES[name]}, the number of {name} ({exponent} is "
                f"{value:.3g}, at the end of what the fit allows): train a wider range of {RANGES[name]}, each with a "
                "learning rate that suits it"
            )
    return found


def undetermined(fit: Fit) -> list[str]:
    """Return a sentence if the runs leave the best size open, even for the budget of the largest of them."""
    if abs(together := _correlation(fit.points)) > COLLINEAR:
        return [
            f"alpha and beta cannot be told apart: N and D change together (their correlation is {together:.2f}), so "
            "train each size for several numbers of tokens"
        ]
    flops = fit.points.flops.max()
    with np.errstate(invalid="ignore"):  # some may be infinite
        low, high = np.percentile([law.optimum(flops).parameters for law in fit.resampled], PERCENTILES)
    if high <= MAX_INTERVAL * low:  # an end that is no number is no answer either
        return []
    return [
        f"the runs do not determine the best N: even for the {short_number(flops)} FLOPs of the largest run it lies "
        f"anywhere between {short_number(low)} and {short_number(high)} parameters: train several sizes, each for "
        "several numbers of tokens"
    ]


def _correlation(points: Points) -> float:
    """Return the correlation of log N and log D."""
    return float(np.corrcoef(np.log(points.parameters), np.log(points.tokens))[0, 1])


def too_far(optimum: Optimum, points: Points) -> list[str]:
    """Return a sentence for each of N and D whose optimum lies too far from what was measured."""
    found = []
    for name, measured in (("parameters", points.parameters), ("tokens", points.tokens)):
        value, low, high = getattr(optimum, name), measured.min(), measured.max()
        best, ends = short_number(value), f"{short_number(low)} to {short_number(high)}"
        budgets = f"{short_number(points.flops.min())} to {short_number(points.flops.max())}"
        if not low / MAX_OUTSIDE <= value <= high * MAX_OUTSIDE:  # not a number is too far as well
            found.append(
                f"the best {NAMES[name]} for {short_number(optimum.flops)} FLOPs would be {best} {name}, more than "
                f"{MAX_OUTSIDE} times outside the measured {ends}: give a budget nearer to the runs' {budgets} FLOPs, "
                "or train runs nearer to it"
            )
    return found


def remarks(fit: Fit) -> Iterator[str]:
    """Yield what the reader of the fit should know: which numbers the runs do not determine."""
    for name in ("alpha", "beta"):
        low, high = interval(fit, name)
        if high - low > getattr(fit.law, name) and not without_effect(fit):
            yield (
                f"{name} is not determined: it lies between {low:.2f} and {high:.2f}; more runs, and a wider range of "
                f"{'sizes' if name == 'alpha' else 'tokens'}, would narrow it"
            )
    exponents = np.array([[law.alpha, law.beta] for law in fit.resampled])
    entangled = float(np.corrcoef(exponents.T)[0, 1]) if len(exponents) > 2 and exponents.std(axis=0).all() else 0.0
    if abs(entangled) > ENTANGLED and abs(_correlation(fit.points)) <= COLLINEAR:
        yield (
            f"alpha and beta are known only together: over the resampled runs their correlation is {entangled:.2f}, so "
            "trust the optimum more than either of them"
        )
    if interval(fit, "E")[0] < 0.05 * fit.points.loss.min():
        yield "E cannot be told from 0: the runs are too far from the loss that no size and no text could lower"


def interval(fit: Fit, name: str) -> tuple[float, float]:
    """Return the 95 % interval of one of the law's numbers."""
    low, high = np.percentile([getattr(law, name) for law in fit.resampled], PERCENTILES)
    return float(low), float(high)


def describe_fit(fit: Fit) -> dict[str, Any]:
    """Return the law's numbers with their intervals, and how well it fits, for a report."""
    numbers = {name: _with_interval(getattr(fit.law, name), interval(fit, name)) for name in Law._fields}
    return {
        "law": numbers,
        "residuals": {  # of the loss, as shares of it
            "rms": float(np.sqrt(np.mean(fit.residuals**2))),
            "largest": float(np.abs(fit.residuals).max()),
        },
        "remarks": list(remarks(fit)),
    }


def describe_optimum(fit: Fit, flops: float) -> dict[str, Any]:
    """Return the best size and tokens for a budget with their intervals, and whether it is an extrapolation."""
    best, points = fit.law.optimum(flops), fit.points
    resampled = [law.optimum(flops) for law in fit.resampled]

    def described(of: Any) -> dict[str, float]:
        low, high = np.percentile([of(one) for one in resampled], PERCENTILES)
        return _with_interval(of(best), (float(low), float(high)))

    beyond = {
        NAMES[name]: value / measured.max() if value > measured.max() else measured.min() / value
        for name, value, measured in (
            ("parameters", best.parameters, points.parameters),
            ("tokens", best.tokens, points.tokens),
        )
        if not measured.min() / MARGIN <= value <= measured.max() * MARGIN
    }
    return {
        "flops": flops,
        "parameters": described(lambda one: one.parameters),
        "tokens": described(lambda one: one.tokens),
        "tokens_per_parameter": described(lambda one: one.tokens / one.parameters),
        "loss": described(lambda one: one.loss),
        "exponent": _with_interval(
            fit.law.exponent, interval(fit, "exponent")
        ),  # parameters grow as FLOPs to this power
        "outside": beyond,  # N and D that lie outside the measured ones -> by which factor
    }


def _with_interval(value: float, ends: tuple[float, float]) -> dict[str, float]:
    return {"value": float(value), "low": ends[0], "high": ends[1]}


def short_number(value: float) -> str:
    """Return a number in four digits: 3.674M, 1.2e+17, 16."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if size <= value < 1000 * size:
            return f"{value / size:.4g}{unit}"
    return f"{value:.4g}"
