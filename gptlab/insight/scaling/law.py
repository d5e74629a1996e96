"""The law of scaling: loss from parameters and tokens.

L(N, D) = E + A / N^alpha + B / D^beta for a model of N parameters after D tokens (Hoffmann et al., arXiv 2203.15556).
P points, which are runs.
"""

from typing import Any, NamedTuple

import numpy as np

FLOPS_FACTOR = 6  # operations for each parameter and token: C = 6 N D


class Points(NamedTuple):
    """Runs by their size, tokens and loss, (P,) each."""

    parameters: np.ndarray
    tokens: np.ndarray
    loss: np.ndarray

    def take(self, index: np.ndarray) -> "Points":
        """Return some of the points, perhaps repeated."""
        return Points(*(values[index] for values in self))

    @property
    def flops(self) -> np.ndarray:
        """Return each run's operations, 6 N D."""
        return FLOPS_FACTOR * self.parameters * self.tokens


class Optimum(NamedTuple):
    """The size with the least loss for a number of operations."""

    flops: float
    parameters: float
    tokens: float
    loss: float


class Law(NamedTuple):
    """The five numbers of a law."""

    E: float  # loss of an endlessly large model on endless text
    A: float
    B: float
    alpha: float
    beta: float

    @property
    def exponent(self) -> float:
        """Return the power of the operations with which the best size grows."""
        return self.beta / (self.alpha + self.beta)

    def loss(self, parameters: Any, tokens: Any) -> Any:
        """Return the loss for each size and number of tokens: numbers, or arrays of equal shapes."""
        with np.errstate(over="ignore"):
            return self.E + self.A * parameters**-self.alpha + self.B * tokens**-self.beta

    def optimum(self, flops: float) -> Optimum:
        """Return the size and tokens with the least loss where 6 N D = `flops`.

        Source: Hoffmann et al., equation 4.
        """
        total, budget = self.alpha + self.beta, flops / FLOPS_FACTOR
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            # in logarithms, as A and B may be huge
            ratio = np.log(self.alpha) + np.log(self.A) - np.log(self.beta) - np.log(self.B)
            log_parameters = (ratio + self.beta * np.log(budget)) / total
            parameters = float(np.exp(log_parameters))
            tokens = float(np.exp(np.log(budget) - log_parameters))
            return Optimum(flops, parameters, tokens, float(self.loss(np.float64(parameters), np.float64(tokens))))
