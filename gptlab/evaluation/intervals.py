"""Confidence intervals of metrics.

U units of the text, R resamples.
"""

import math
from typing import NamedTuple

import numpy as np

N_RESAMPLES = 2000  # R
MIN_UNITS = 20  # fewer give too narrow intervals: with 8 units, one in nine pairs of equal models would look different
PERCENTILES = (2.5, 97.5)
Z = 1.959964  # 95 % of a normal distribution lies within so many standard deviations


class Interval(NamedTuple):
    """The ends of a 95 % confidence interval."""

    low: float
    high: float


class Sums(NamedTuple):
    """Numerator and denominator of a ratio, summed within each unit.

    For example nats and tokens, or bits and bytes.
    """

    totals: np.ndarray  # (U,) float64
    weights: np.ndarray  # (U,) float64

    @property
    def ratio(self) -> float:
        """Return sum(totals) / sum(weights)."""
        return float(self.totals.sum() / self.weights.sum())


class Difference(NamedTuple):
    """The difference of two models' ratios."""

    value: float
    interval: Interval | None

    @property
    def significant(self) -> bool:
        """Return whether the interval excludes 0; False without an interval."""
        return self.interval is not None and (self.interval.low > 0 or self.interval.high < 0)


def finite(value: float | None) -> float | None:
    """Return a value, or None if it is not finite.

    JSON has no infinity.
    """
    return value if value is not None and math.isfinite(value) else None


def with_interval(value: float, interval: Interval | None) -> dict[str, float | None]:
    """Return a value and its interval's ends for a report.

    An end is None without an interval. Values that are not finite become None.
    """
    low, high = interval or (None, None)
    return {"value": finite(value), "low": finite(low), "high": finite(high)}


def bootstrap(sums: Sums, *, seed: int) -> Interval | None:
    """Return the percentile bootstrap interval of a ratio (Efron, 1979).

    The units are drawn with replacement. None with fewer than MIN_UNITS units of nonzero weight.
    """
    return _interval(_resampled(sums, seed=seed)[0]) if _enough(sums) else None


def paired_difference(a: Sums, b: Sums, *, seed: int) -> Difference:
    """Return a's ratio - b's with a paired bootstrap interval.

    Both are resampled over the same units, so that what makes a unit hard for both models cancels out.
    """
    value = a.ratio - b.ratio
    if not (_enough(a) and _enough(b)):
        return Difference(value, None)
    ratios = _resampled(a, b, seed=seed)
    return Difference(value, _interval(ratios[0] - ratios[1]))


def wilson(n_right: int, n: int) -> Interval:
    """Return the Wilson (1927) interval of a share n_right / n.

    Unlike p +- z sqrt(p (1 - p) / n) it also holds near 0 and 1.
    """
    share, spread = n_right / n, Z**2 / n
    middle = share + spread / 2
    half = math.sqrt(spread * (share * (1 - share) + spread / 4))
    return Interval((middle - half) / (1 + spread), (middle + half) / (1 + spread))


def _resampled(*all_sums: Sums, seed: int) -> np.ndarray:
    """Return each ratio over the same resamples.

    The shape is (number of sums, R). Resamples without weight are left out.
    """
    n_units = len(all_sums[0].totals)
    picks = np.random.default_rng(seed).integers(n_units, size=(N_RESAMPLES, n_units), dtype=np.int32)  # (R, U)
    totals, weights = (
        np.stack([values[picks].sum(axis=1) for values in column]) for column in zip(*all_sums, strict=True)
    )  # (number of sums, R) each
    weighted = (weights > 0).all(axis=0)
    return totals[:, weighted] / weights[:, weighted]


def _enough(sums: Sums) -> bool:
    return int(np.count_nonzero(sums.weights)) >= MIN_UNITS


def _interval(ratios: np.ndarray) -> Interval:
    return Interval(*np.percentile(ratios, PERCENTILES).tolist())
