"""Scaling laws: known constants are found again, and what the runs do not say is not said."""

from functools import cache
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy")

from gptlab.insight.scaling.fit import DELTA, Fit, fit_law
from gptlab.insight.scaling.law import Law, Points
from gptlab.insight.scaling.picture import draw_fit
from gptlab.insight.scaling.verdict import (
    describe_optimum,
    few_runs,
    interval,
    remarks,
    short_number,
    short_spans,
    too_far,
    undetermined,
    without_effect,
)

PUBLISHED = Law(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658)  # Besiroglu et al., arXiv 2404.10102
SIZES, TOKENS = np.geomspace(5e7, 5e9, 6), np.geomspace(1e9, 1e11, 6)


def measured(
    law: Law = PUBLISHED, *, sizes: Any = SIZES, tokens: Any = TOKENS, noise: float = 0.003, seed: int = 0
) -> Points:
    """Return a grid of runs that follow a law, with noise in the log of their losses."""
    n, d = (values.ravel() for values in np.meshgrid(sizes, tokens))
    return Points(n, d, law.loss(n, d) * np.exp(np.random.default_rng(seed).normal(0, noise, n.size)))


@cache
def fitted(seed: int = 0, noise: float = 0.003) -> Fit:
    return fit_law(measured(noise=noise, seed=seed), n_resamples=20, seed=1)


def test_without_noise_the_constants_come_back() -> None:
    fit = fit_law(measured(noise=0.0), n_resamples=1, seed=0)
    assert fit.law == pytest.approx(PUBLISHED, rel=1e-3)
    assert np.abs(fit.residuals).max() < DELTA / 100


def test_intervals_cover_the_constants() -> None:
    covered = [
        low <= getattr(PUBLISHED, name) <= high
        for seed in (100, 101)
        for name in Law._fields
        for low, high in [interval(fitted(seed), name)]
    ]
    assert np.mean(covered) >= 0.9  # of ten intervals of 95 %


def test_the_objective_is_the_sum_of_the_runs() -> None:
    """With the mean, each run twice would change nothing; with the sum, the optimizer does not stop early either."""
    points = measured(noise=0.0)
    twice = Points(*(np.concatenate([values, values]) for values in points))
    assert fit_law(twice, n_resamples=1, seed=0).law == pytest.approx(PUBLISHED, rel=1e-3)


def test_one_odd_run_does_not_bend_the_law() -> None:
    points = measured(noise=0.001)
    points.loss[7] *= 1.5
    law = fit_law(points, n_resamples=1, seed=0).law
    assert (law.alpha, law.beta) == pytest.approx((PUBLISHED.alpha, PUBLISHED.beta), rel=0.1)


def test_the_best_size_has_the_least_loss_of_its_budget() -> None:
    best = PUBLISHED.optimum(1e21)
    assert best.parameters * best.tokens * 6 == pytest.approx(1e21)
    sizes = best.parameters * np.geomspace(0.5, 2, 201)
    losses = PUBLISHED.loss(sizes, 1e21 / 6 / sizes)
    assert sizes[losses.argmin()] == pytest.approx(best.parameters, rel=0.01)
    assert best.loss == pytest.approx(losses.min())


def test_the_best_size_has_an_interval_around_the_true_one() -> None:
    found, true = describe_optimum(fitted(), 1e21), PUBLISHED.optimum(1e21)
    for name in ("parameters", "tokens"):
        assert found[name]["value"] == pytest.approx(getattr(true, name), rel=0.15)
        assert found[name]["low"] < found[name]["value"] < found[name]["high"]
    assert found["outside"] == {}
    assert set(describe_optimum(fitted(), 1e24)["outside"]) == {"N", "D"}


def test_short_spans_are_refused_by_name() -> None:
    assert short_spans(measured()) == []
    assert short_spans(measured(sizes=[1e6, 2e6, 8e6])) == []  # exactly 8
    (sentence,) = short_spans(measured(sizes=[1e6, 2e6, 4e6]))
    assert sentence.startswith(
        "N spans a factor of 4 (1M to 4M parameters), wanted at least 8: train smaller or larger"
    )
    assert "D spans a factor of 2" in short_spans(measured(sizes=[1e6, 2e6, 4e6], tokens=[1e8, 1.5e8, 2e8]))[1]


def test_a_far_budget_is_refused_with_what_was_measured() -> None:
    assert too_far(PUBLISHED.optimum(1e21), measured()) == []
    sentences = too_far(PUBLISHED.optimum(1e27), measured())
    assert len(sentences) == 2
    assert "more than 10 times outside the measured 50M to 5B: give a budget nearer to the runs' 3e+17" in sentences[0]
    assert too_far(PUBLISHED.optimum(1e12), measured())


def test_too_few_runs_are_refused() -> None:
    assert few_runs(measured()) is None
    assert "4 finished runs of 2 sizes and 2 numbers of tokens" in str(few_runs(measured(sizes=[1, 9], tokens=[1, 9])))
    assert few_runs(measured(sizes=[1e6, 9e6])) is not None  # 12 runs, but of two sizes


def test_what_the_runs_do_not_determine_is_said() -> None:
    assert all("only together" in text for text in remarks(fitted()))
    sizes = np.geomspace(1e6, 1e9, 9)
    ray = Points(sizes, 20 * sizes, PUBLISHED.loss(sizes, 20 * sizes))
    assert "cannot be told apart: N and D change together" in undetermined(fit_law(ray, n_resamples=1, seed=0))[0]
    unsure = fitted()._replace(resampled=[PUBLISHED, PUBLISHED, *[PUBLISHED._replace(A=1e-9)] * 2])
    assert "the runs do not determine the best N" in undetermined(unsure)[0]
    assert undetermined(fitted()) == []
    near = measured(sizes=np.geomspace(1e6, 8e6, 4), tokens=np.geomspace(1e6, 8e6, 4), noise=0.02)
    assert any("E cannot be told from 0" in text for text in remarks(fit_law(near, n_resamples=6, seed=0)))


def test_a_size_without_effect_is_said() -> None:
    flat = measured(Law(E=2.0, A=1e-12, B=2085.43, alpha=0.3, beta=0.3658), noise=0.0)
    (sentence,) = without_effect(fit_law(flat, n_resamples=1, seed=0))
    assert "follows no power law in N, the number of parameters (alpha is " in sentence
    assert without_effect(fitted()) == []


def test_the_same_seed_gives_the_same_intervals() -> None:
    first, again = (fit_law(measured(), n_resamples=2, seed=3) for _ in range(2))
    assert first.resampled == again.resampled


def test_the_picture_has_three_panels() -> None:
    figure = draw_fit(fitted(), flops=1e21)
    assert len([axes for axes in figure.axes if axes.get_title()]) == 3
    dots = figure.axes[0].get_lines()
    assert sum(len(line.get_xdata()) for line in dots if line.get_marker() == "o") == 36  # every run is shown


def test_numbers_are_short() -> None:
    assert [short_number(value) for value in (3.674e6, 1e12, 0.36789, 16, 3e17)] == [
        "3.674M",
        "1T",
        "0.3679",
        "16",
        "3e+17",
    ]
