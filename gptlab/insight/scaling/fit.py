"""The law that fits a set of runs, and how sure it is.

P points, S starts, R resamples.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from gptlab.errors import UserError
from gptlab.insight.scaling.law import Law, Points

DELTA = 1e-3  # residuals of the log loss above it count linearly, so that one odd run does not bend the law
EXPONENTS = np.geomspace(0.05, 2.0, 12)  # starts for alpha and beta
N_REFINED = 24  # starts that are refined, the best of the grid
MIN_DISTINCT = 3  # sizes, and numbers of tokens, without which an exponent means nothing
BOUNDS = {"alpha": (1e-3, 5.0), "beta": (1e-3, 5.0)}
LEAST_E, LEAST_LOG = 1e-6, -20.0  # of E, and of the logarithms of A and B at the runs' mean


class Fit(NamedTuple):
    """A fitted law, and those of the resampled runs."""

    law: Law
    resampled: list[Law]
    points: Points

    @property
    def residuals(self) -> np.ndarray:
        """Return log(measured / fitted) of each run.   -> (P,)"""
        return np.log(self.points.loss / self.law.loss(self.points.parameters, self.points.tokens))


class _Problem(NamedTuple):
    """Points around their geometric mean, so that all five unknowns are near 1."""

    x: np.ndarray  # (P,) log parameters, less their mean
    y: np.ndarray  # (P,) log tokens, less their mean
    log_loss: np.ndarray  # (P,)
    centre: tuple[float, float]  # the two means


def fit_law(points: Points, *, n_resamples: int, seed: int) -> Fit:
    """Fit the law to runs, and to resampled ones for the intervals.

    The sum of Huber losses of log-space residuals is minimised by L-BFGS-B from a grid of starts (Hoffmann et al.,
    arXiv 2203.15556, approach 3). It is the sum, in units of DELTA: the optimizer's tolerance is absolute, and with the
    mean it would stop early (Besiroglu et al., arXiv 2404.10102). Each start has the best E, A and B for its exponents.

    Args:
        n_resamples: R, how often the runs are drawn with replacement (bootstrap).
    """
    problem = _problem(points)
    found = sorted(_refine(problem, _grid(problem)), key=lambda pair: pair[0])
    law = _law(found[0][1], problem)
    generator, resampled = np.random.default_rng(seed), []
    others = [vector for _, vector in found[:: max(1, len(found) // 3)]]  # the best, and two or three other minima
    for _ in range(n_resamples):
        drawn = problem_of_sample(points, generator)
        starts = [_moved(vector, problem, drawn) for vector in others]
        _, best = min(_refine(drawn, starts), key=lambda pair: pair[0])
        resampled.append(_law(best, drawn))
    return Fit(law, resampled, points)


def problem_of_sample(points: Points, generator: np.random.Generator) -> _Problem:
    """Return runs drawn with replacement, with enough different sizes and tokens for a fit."""
    while True:
        sample = points.take(generator.integers(len(points.loss), size=len(points.loss)))
        if enough_distinct(sample):
            return _problem(sample)


def enough_distinct(points: Points) -> bool:
    """Return whether there are as many sizes and numbers of tokens as exponents need."""
    return min(len(np.unique(values)) for values in (points.parameters, points.tokens)) >= MIN_DISTINCT


def check_scipy() -> None:
    """Raise a UserError if scipy is missing.

    Raises:
        UserError: it is.
    """
    try:
        import scipy.optimize  # type: ignore[import-untyped]  # noqa: F401
    except ImportError:
        raise UserError('the fit needs scipy, which is not installed: pip install "gptlab[sweep]"') from None


def _problem(points: Points) -> _Problem:
    x, y = np.log(points.parameters), np.log(points.tokens)
    return _Problem(x - x.mean(), y - y.mean(), np.log(points.loss), (float(x.mean()), float(y.mean())))


def _grid(problem: _Problem) -> list[np.ndarray]:
    """Return starts: the best E, A and B for each pair of exponents, the best fits first.   -> S times (5,)

    For given exponents the law is linear in them: non-negative least squares of the relative residuals.
    """
    from scipy.optimize import nnls

    loss, starts = np.exp(problem.log_loss), []
    for alpha in EXPONENTS:
        for beta in EXPONENTS:
            terms = np.stack([np.ones_like(loss), np.exp(-alpha * problem.x), np.exp(-beta * problem.y)], axis=1)
            factors, _ = nnls(terms / loss[:, None], np.ones_like(loss))
            starts.append(np.array([*np.log(np.maximum(factors, 1e-3 * loss.min())), alpha, beta]))
    return sorted(starts, key=lambda start: _objective(start, problem)[0])[:N_REFINED]


def _refine(problem: _Problem, starts: Iterable[np.ndarray]) -> list[tuple[float, np.ndarray]]:
    """Return the minimum that each start leads to, and where it is."""
    from scipy.optimize import minimize

    top = float(problem.log_loss.max()) + 1
    limits = [(math.log(LEAST_E), float(problem.log_loss.min())), (LEAST_LOG, top), (LEAST_LOG, top)]
    limits += [BOUNDS["alpha"], BOUNDS["beta"]]
    options = {"maxiter": 2000, "ftol": 1e-13, "gtol": 1e-9}
    found = []
    for start in starts:
        inside = np.clip(start, [low for low, _ in limits], [high for _, high in limits])
        result = minimize(
            _objective, inside, args=(problem,), jac=True, method="L-BFGS-B", bounds=limits, options=options
        )
        found.append((float(result.fun), result.x))
    return found


def _objective(vector: np.ndarray, problem: _Problem) -> tuple[float, np.ndarray]:
    """Return the sum of Huber losses and its gradient.   (5,) -> (), (5,)

    Args:
        vector: log E, log A, log B, alpha, beta; A and B at the points' geometric mean.
    """
    e, a, b, alpha, beta = vector
    terms = np.stack([np.full_like(problem.x, e), a - alpha * problem.x, b - beta * problem.y])  # (3, P)
    top = terms.max(axis=0)
    shares = np.exp(terms - top)
    total = shares.sum(axis=0)
    residuals = (top + np.log(total) - problem.log_loss) / DELTA
    size = np.abs(residuals)
    value = np.where(size <= 1, 0.5 * residuals**2, size - 0.5).sum()
    weighted = shares / total * np.clip(residuals, -1, 1) / DELTA  # (3, P)
    sums = weighted.sum(axis=1)
    slopes = [-(weighted[1] * problem.x).sum(), -(weighted[2] * problem.y).sum()]
    return float(value), np.array([*sums, *slopes])


def _law(vector: np.ndarray, problem: _Problem) -> Law:
    """Return the law of a vector, its A and B at one parameter and one token."""
    e, a, b, alpha, beta = (float(value) for value in vector)
    x, y = problem.centre
    return Law(math.exp(e), math.exp(a + alpha * x), math.exp(b + beta * y), alpha, beta)


def _moved(vector: np.ndarray, problem: _Problem, other: _Problem) -> np.ndarray:
    """Return the same law's vector around another centre."""
    e, a, b, alpha, beta = vector
    shifts = [there - here for here, there in zip(problem.centre, other.centre, strict=True)]
    return np.array([e, a - alpha * shifts[0], b - beta * shifts[1], alpha, beta])
