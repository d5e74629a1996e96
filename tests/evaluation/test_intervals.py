"""Intervals have the promised coverage."""

import math

import numpy as np
import pytest

from gptlab.evaluation.intervals import MIN_UNITS, Difference, Interval, Sums, bootstrap, paired_difference, wilson


def drawn(seed: int, n_units: int = 60) -> Sums:
    """Draw units of unequal size with a mean of 2 per item; a unit's items are alike."""
    draw = np.random.default_rng(seed)
    weights = draw.integers(1, 40, size=n_units).astype(float)
    return Sums(weights * (2 + draw.normal(0, 0.5, size=n_units)), weights)


def test_the_intervals_cover_the_true_value_95_percent_of_the_time() -> None:
    intervals = [bootstrap(drawn(seed), seed=seed) for seed in range(300)]
    held = sum(i is not None and i.low <= 2 <= i.high for i in intervals)
    assert 0.91 <= held / 300 <= 0.98


def test_the_interval_has_the_theoretical_width() -> None:
    values = np.random.default_rng(0).normal(5, 2, size=1000)
    interval = bootstrap(Sums(values, np.ones(1000)), seed=1)
    assert interval is not None
    half = 1.96 * values.std() / math.sqrt(1000)
    assert interval.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_the_same_seed_gives_the_same_interval() -> None:
    assert bootstrap(drawn(0), seed=3) == bootstrap(drawn(0), seed=3) != bootstrap(drawn(0), seed=4)


@pytest.mark.parametrize("n_units", [1, 2, MIN_UNITS - 1])
def test_few_units_have_no_interval(n_units: int) -> None:
    few, better = drawn(0, n_units), drawn(0, n_units)
    better.totals[:] -= better.weights
    assert bootstrap(few, seed=0) is None
    difference = paired_difference(better, few, seed=0)
    assert difference.value == pytest.approx(-1)
    assert difference.interval is None
    assert not difference.significant


def test_units_of_zero_weight_do_not_count() -> None:
    """An end-of-text token, for example, has no bytes."""
    few, enough = drawn(0, MIN_UNITS - 1), drawn(0, MIN_UNITS)
    empty = np.zeros(30)
    few, padded = (Sums(*(np.concatenate([side, empty]) for side in sums)) for sums in (few, enough))
    assert bootstrap(few, seed=0) is None
    interval, without = bootstrap(padded, seed=0), bootstrap(enough, seed=0)
    assert interval is not None
    assert without is not None
    assert interval == pytest.approx(without, abs=0.1)


def test_a_nan_difference_is_not_significant() -> None:
    assert not Difference(math.nan, Interval(math.nan, math.nan)).significant


def test_a_paired_difference_has_a_narrower_interval_than_its_parts() -> None:
    a, noise = drawn(0), np.random.default_rng(1).normal(0, 0.01, size=60)
    b = Sums(a.totals + a.weights * (0.05 + noise), a.weights)
    difference, alone = paired_difference(b, a, seed=0), bootstrap(a, seed=0)
    assert difference.value == pytest.approx(b.ratio - a.ratio)
    assert difference.interval is not None
    assert alone is not None
    assert difference.interval.high - difference.interval.low < 0.1 * (alone.high - alone.low)
    assert difference.significant
    assert not paired_difference(a, drawn(7), seed=0).significant


@pytest.mark.parametrize("n_units", [MIN_UNITS, 60])
def test_equal_models_seldom_differ_significantly(n_units: int) -> None:
    draw = np.random.default_rng(0)
    called = 0
    for seed in range(300):
        a = drawn(seed, n_units)
        b = Sums(a.totals + a.weights * draw.normal(0, 0.3, size=n_units), a.weights)
        called += paired_difference(a, b, seed=seed).significant
    assert 0.02 <= called / 300 <= 0.1


def test_a_share_and_its_interval() -> None:
    """The textbook example is 8 of 10."""
    assert wilson(8, 10) == pytest.approx(Interval(0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 20) == pytest.approx(Interval(0.0, 0.1611), abs=1e-4)
    assert wilson(20, 20) == pytest.approx(Interval(0.8389, 1.0), abs=1e-4)


def test_wilson_intervals_cover_the_true_share() -> None:
    draw = np.random.default_rng(0)
    for truth in (0.05, 0.5, 0.9):
        intervals = [wilson(int(right), 100) for right in draw.binomial(100, truth, size=1000)]
        assert 0.92 <= np.mean([low <= truth <= high for low, high in intervals]) <= 0.985
