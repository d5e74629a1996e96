"""How far a number measured on one text can be trusted.   U units of the text, R resamples."""

import math
from typing import NamedTuple

import numpy as np

N_RESAMPLES = 2000  # R
MIN_UNITS = 20  # of fewer, intervals are too narrow: of equal models, 8 units would call one in nine pairs different
PERCENTILES = (2.5, 97.5)
Z = 1.959964  # of a normal distribution, 95 % lies within so many standard deviations


class Interval(NamedTuple):
    """Where the number lies with 95 % confidence."""

    low: float
    high: float


class Sums(NamedTuple):
    """A ratio's two sides, summed within each unit: nats and tokens, or nats and bytes."""

    totals: np.ndarray  # (U,) float64
    weights: np.ndarray  # (U,) float64

    @property
    def ratio(self) -> float:
        """sum of totals / sum of weights"""
        return float(self.totals.sum() / self.weights.sum())


class Difference(NamedTuple):
    """By how much one model's ratio is above the other's."""

    value: float
    interval: Interval | None

    @property
    def real(self) -> bool:
        """Whether the interval excludes 0; without one nothing is shown."""
        return self.interval is not None and (self.interval.low > 0 or self.interval.high < 0)


def finite(value: float | None) -> float | None:
    """None for what is not: plain values, as JSON has them, know no infinity."""
    return value if value is not None and math.isfinite(value) else None


def with_interval(value: float, interval: Interval | None) -> dict[str, float | None]:
    """A number of a report with the ends of its interval; None where there is none, and for what is not finite."""
    low, high = interval or (None, None)
    return {"value": finite(value), "low": finite(low), "high": finite(high)}


def bootstrap(sums: Sums, *, seed: int) -> Interval | None:
    """Of sum(totals) / sum(weights) over units drawn with replacement, the middle 95 % (Efron, 1979: percentiles).

    None of fewer than MIN_UNITS that weigh something.
    """
    return _interval(_resampled(sums, seed=seed)[0]) if _enough(sums) else None


def paired(a: Sums, b: Sums, *, seed: int) -> Difference:
    """a's ratio - b's, both over the same units: what makes a unit hard for both cancels out."""
    value = a.ratio - b.ratio
    if not (_enough(a) and _enough(b)):
        return Difference(value, None)
    ratios = _resampled(a, b, seed=seed)
    return Difference(value, _interval(ratios[0] - ratios[1]))


def wilson(n_right: int, n: int) -> Interval:
    """Of a share n_right / n (Wilson, 1927); unlike p +- z sqrt(p (1 - p) / n) it is right near 0 and 1, too."""
    share, spread = n_right / n, Z**2 / n
    middle = share + spread / 2
    half = math.sqrt(spread * (share * (1 - share) + spread / 4))
    return Interval((middle - half) / (1 + spread), (middle + half) / (1 + spread))


def _resampled(*all_sums: Sums, seed: int) -> np.ndarray:
    """(number of sums, R): each one's ratio over the same draws, but for draws that weigh nothing."""
    n_units = len(all_sums[0].totals)
    picks = np.random.default_rng(seed).integers(n_units, size=(N_RESAMPLES, n_units), dtype=np.int32)  # (R, U)
    totals, weights = (
        np.stack([values[picks].sum(axis=1) for values in side]) for side in zip(*all_sums, strict=True)
    )  # (number of sums, R) each
    some = (weights > 0).all(axis=0)
    return totals[:, some] / weights[:, some]


def _enough(sums: Sums) -> bool:
    return int(np.count_nonzero(sums.weights)) >= MIN_UNITS


def _interval(ratios: np.ndarray) -> Interval:
    return Interval(*np.percentile(ratios, PERCENTILES).tolist())
