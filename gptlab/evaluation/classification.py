"""A classifier's predictions on labelled rows, and their metrics.

R rows, C classes.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gptlab.batch import on_device
from gptlab.console import unit_progress
from gptlab.data.protocol import Rows, ScoredRows
from gptlab.evaluation.inference import inference
from gptlab.evaluation.intervals import MIN_UNITS, PERCENTILES, Difference, Interval, with_interval
from gptlab.evaluation.rows import RowReport
from gptlab.evaluation.score import require_finite
from gptlab.hardware.precision import ForwardContext
from gptlab.heads.counts import confusion_matrix, reliability
from gptlab.heads.protocol import Head
from gptlab.model.gpt import GPT

N_RESAMPLES = 1000


@dataclass(frozen=True)
class Predictions:
    """The class probabilities and the true classes of rows."""

    log_probs: np.ndarray  # (R, C) float64
    labels: np.ndarray  # (R,) int64, the true classes

    @property
    def predicted(self) -> np.ndarray:
        """Return the most probable class of each row.   -> (R,)"""
        return self.log_probs.argmax(axis=1)

    @property
    def confusion(self) -> np.ndarray:
        """Return the confusion matrix.

        -> (C, C), row counts by true class and predicted class.
        """
        return confusion_matrix(self.log_probs, self.labels)

    def take(self, rows: np.ndarray) -> "Predictions":
        """Return the predictions of these rows, which may repeat."""
        return Predictions(self.log_probs[rows], self.labels[rows])


def predict_rows(
    model: GPT, head: Head, rows: Rows, *, batch_size: int, forward_context: ForwardContext
) -> Predictions:
    """Return the predictions of every row, in order.

    Args:
        batch_size: rows at a time.

    Raises:
        UserError: a probability is not finite.
    """
    order = rows.reading_order()
    log_probs_of, labels_of = [], []  # of each batch
    with inference(model, forward_context) as device, unit_progress("Reading", len(order), "rows") as advance:
        for start in range(0, len(order), batch_size):
            batch = rows[order[start : start + batch_size]]
            moved = on_device(batch, device)
            logits = head(model(moved["ids"]), moved)  # (B, C)
            log_probs_of.append(logits.double().log_softmax(dim=-1).cpu())
            labels_of.append(batch["labels"])
            advance(len(logits))
    log_probs, labels = torch.cat(log_probs_of).numpy(), torch.cat(labels_of).numpy()
    require_finite("log probability", float(log_probs.sum()))
    inverse = np.argsort(order)
    return Predictions(log_probs[inverse], labels[inverse])


def loss(predictions: Predictions) -> float:
    """Return the mean cross entropy in nats."""
    return float(-predictions.log_probs[np.arange(len(predictions.labels)), predictions.labels].mean())


def accuracy(predictions: Predictions) -> float:
    """Return the share of rows predicted right."""
    return float((predictions.predicted == predictions.labels).mean())


def balanced_accuracy(predictions: Predictions) -> float:
    """Return the mean recall over classes with rows.

    Guessing gives 1 / C.
    """
    confusion = predictions.confusion
    rows = confusion.sum(axis=1)
    return float((np.diag(confusion)[rows > 0] / rows[rows > 0]).mean())


def precision(predictions: Predictions) -> float:
    """Return the share of a class's predictions that are true.

    With two classes it is the second one's, with more the mean; recall and F1 are reduced alike.
    """
    confusion = predictions.confusion
    return _over_classes(np.diag(confusion), confusion.sum(axis=0), confusion)


def recall(predictions: Predictions) -> float:
    """Return the share of a class's rows predicted right."""
    confusion = predictions.confusion
    return _over_classes(np.diag(confusion), confusion.sum(axis=1), confusion)


def f1(predictions: Predictions) -> float:
    """Return the harmonic mean of precision and recall."""
    confusion = predictions.confusion
    return _over_classes(2 * np.diag(confusion), confusion.sum(axis=0) + confusion.sum(axis=1), confusion)


def auroc(predictions: Predictions) -> float:
    """Return the area under the ROC curve.

    It is the chance that a row of a class gets a higher probability of it than a row of another class. With two classes
    it is the second one's, with more the mean over those that have rows; nan if only one has rows.
    """
    n_classes = predictions.log_probs.shape[1]
    areas = []
    for label in [1] if n_classes == 2 else range(n_classes):
        own = predictions.labels == label
        if own.any() and not own.all():
            areas.append(_rank_share(predictions.log_probs[:, label], own))
    return float(np.mean(areas)) if areas else math.nan


def calibration_error(predictions: Predictions) -> float:
    """Return the expected calibration error over bins."""
    return reliability(predictions.log_probs, predictions.labels).error


MEASURES: dict[str, Callable[[Predictions], float]] = {
    "loss": loss,
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "precision": precision,
    "recall": recall,
    "f1": f1,
    "auroc": auroc,
    "calibration_error": calibration_error,
}


def prediction_values(log_probs: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Return one row's predicted class and probabilities.

    (C,) -> plain values
    """
    probabilities = np.exp(log_probs).tolist()
    return {
        "predicted": names[int(log_probs.argmax())],
        "probabilities": {name: round(p, 6) for name, p in zip(names, probabilities, strict=True)},
    }


def summarise(predictions: Predictions, *, seed: int) -> dict[str, dict[str, Any]]:
    """Return each metric with its bootstrap interval.

    Intervals are 95 % percentile intervals over resampled rows; there are none for fewer than MIN_UNITS rows.
    """
    n = len(predictions.labels)
    draws = [predictions.take(rows) for rows in _draws(n, seed)] if n >= MIN_UNITS else []
    return {
        name: with_interval(measure(predictions), _middle([measure(draw) for draw in draws]))
        for name, measure in MEASURES.items()
    }


def measure_classes(
    model: GPT, head: Head, scored: ScoredRows, *, batch_size: int, seed: int, forward_context: ForwardContext
) -> RowReport:
    """Return the report on labelled rows, and each row's prediction.

    `confusion` counts rows by true class (the outer list) and predicted class (the inner lists).

    Raises:
        UserError: a probability is not finite.
    """
    predictions = predict_rows(model, head, scored.rows, batch_size=batch_size, forward_context=forward_context)
    report = {
        "metrics": summarise(predictions, seed=seed),
        "rows": len(predictions.labels),
        "confusion": {
            "axes": ["true", "predicted"],
            "classes": [*scored.classes],
            "counts": predictions.confusion.tolist(),
        },
    }
    items = [
        {**item, **prediction_values(log_probs, scored.classes)}
        for item, log_probs in zip(scored.items, predictions.log_probs, strict=True)
    ]
    return RowReport(report, items)


def paired_difference(
    a: Predictions, b: Predictions, measure: Callable[[Predictions], float], *, seed: int
) -> Difference:
    """Return a's value - b's, over the same rows."""
    value = measure(a) - measure(b)
    if len(a.labels) < MIN_UNITS:
        return Difference(value, None)
    draws = [measure(a.take(rows)) - measure(b.take(rows)) for rows in _draws(len(a.labels), seed)]
    return Difference(value, _middle(draws))


def _draws(n_rows: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(n_rows, size=(N_RESAMPLES, n_rows))


def _middle(values: list[float]) -> Interval | None:
    """Return the middle 95 % of the finite values; None without any."""
    numbers = np.array([value for value in values if math.isfinite(value)])
    return Interval(*np.percentile(numbers, PERCENTILES).tolist()) if len(numbers) else None


def _over_classes(right: np.ndarray, of: np.ndarray, confusion: np.ndarray) -> float:
    """Return the second of two shares, or the mean of more.

    The share is 0 for a class that is never predicted or has no rows. The mean leaves out classes with neither.
    """
    shares = np.divide(right, of, out=np.zeros(len(of)), where=of > 0)
    if len(shares) == 2:
        return float(shares[1])
    present = (confusion.sum(axis=0) + confusion.sum(axis=1)) > 0
    return float(shares[present].mean())


def _rank_share(scores: np.ndarray, own: np.ndarray) -> float:
    """Return Mann and Whitney's U over all pairs; ties count half."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]  # (R,), from 1 on, ties in the middle
    n_own, n_other = own.sum(), (~own).sum()
    return float((ranks[own].sum() - n_own * (n_own + 1) / 2) / (n_own * n_other))
