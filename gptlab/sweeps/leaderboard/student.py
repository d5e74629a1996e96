"""Intervals of a few runs' means, by Student's t distribution.

n runs, df degrees of freedom.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from statistics import fmean
from typing import Literal, NamedTuple

import numpy as np

from gptlab.evaluation.intervals import Interval

LEVEL = 0.95  # of an interval: the share of such intervals that hold the true mean
N_NODES = 200  # of the quadrature: 10 digits between 1 and 10,000 degrees of freedom
N_HALVINGS = 60  # of an angle below pi / 2: to the last bit


class Contrast(NamedTuple):
    """The difference of two groups' means, the first less the second."""

    value: float
    interval: Interval | None  # None where chance cannot be judged
    kind: Literal["paired", "Welch", "unknown"]
    n: int  # pairs, or runs of the smaller group

    @property
    def sure(self) -> bool:
        """Return whether the interval excludes 0; False without an interval."""
        return self.interval is not None and (self.interval.low > 0 or self.interval.high < 0)


@cache
def t_quantile(df: float, level: float) -> float:
    """Return the t that |T| stays below with probability `level`.

    With T = sqrt(df) tan(a), the probability of |T| < t is 2 c times the integral of cos(a) ** (df - 1) from 0 to
    arctan(t / sqrt(df)), where c is the constant of Student's density (1908). It is inverted by bisection.

    Args:
        df: 1 or more; not whole for Welch's test.
    """
    constant = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(math.pi)
    nodes, weights = np.polynomial.legendre.leggauss(N_NODES)  # on [-1, 1]

    def probability(angle: float) -> float:
        values = np.cos((nodes + 1) * angle / 2) ** (df - 1)
        return 2 * constant * angle / 2 * float(values @ weights)

    low, high = 0.0, math.pi / 2
    for _ in range(N_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if probability(middle) < level else (low, middle)
    return math.sqrt(df) * math.tan((low + high) / 2)


def mean_interval(values: Sequence[float], *, level: float = LEVEL) -> Interval | None:
    """Return the t interval of a mean, None for fewer than two values."""
    if len(values) < 2:
        return None
    interval = _around(fmean(values), _variance(values) / len(values), len(values) - 1, level)
    return interval if math.isfinite(interval.low) else None


def contrast(a: Mapping[str, float], b: Mapping[str, float], *, level: float = LEVEL) -> Contrast:
    """Return the difference of two groups' means, with its interval.

    Groups with the same seeds are paired by them, because a seed moves both alike; others are compared by Welch (1947),
    who lets the groups spread differently. There is no interval for fewer than two runs in a group, nor where nothing
    varies: two equal numbers of a coarse metric do not show that chance has no part.

    Args:
        a: seed -> value.
        b: likewise.
    """
    value, n = fmean(a.values()) - fmean(b.values()), min(len(a), len(b))
    if n < 2:
        return Contrast(value, None, "unknown", n)
    if a.keys() == b.keys():
        differences = [a[seed] - b[seed] for seed in a]
        spread = _variance(differences) / n
        if not 0 < spread < math.inf:
            return Contrast(value, None, "unknown", n)
        return Contrast(value, _around(value, spread, n - 1, level), "paired", n)
    spreads = [_variance([*group.values()]) / len(group) for group in (a, b)]
    if not 0 < sum(spreads) < math.inf:
        return Contrast(value, None, "unknown", n)
    shares = sum(spread**2 / (len(group) - 1) for spread, group in zip(spreads, (a, b), strict=True))
    return Contrast(value, _around(value, sum(spreads), sum(spreads) ** 2 / shares, level), "Welch", n)


def _variance(values: Sequence[float]) -> float:
    """Return the unbiased variance; infinite where it is more than a float holds."""
    with np.errstate(over="ignore"):  # a diverged run's perplexity
        return float(np.var(values, ddof=1))


def _around(middle: float, squared_error: float, df: float, level: float) -> Interval:
    """Return the interval around a mean, by its squared standard error."""
    half = t_quantile(df, level) * math.sqrt(squared_error)
    return Interval(middle - half, middle + half)
