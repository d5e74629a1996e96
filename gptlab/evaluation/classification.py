"""A classifier's verdicts on labelled rows, and what they are worth.   R rows, C classes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gptlab.batch import on_device
from gptlab.console import unit_progress
from gptlab.data.protocol import Rows
from gptlab.evaluation.inference import ForwardContext, inference
from gptlab.evaluation.intervals import MIN_UNITS, PERCENTILES, Difference, Interval, with_interval
from gptlab.evaluation.score import require_numbers
from gptlab.heads.counts import confusion_matrix, reliability
from gptlab.heads.protocol import Head
from gptlab.model.gpt import GPT

N_RESAMPLES = 1000


@dataclass(frozen=True)
class Predictions:
    """What a classifier says of every row."""

    log_probs: np.ndarray  # (R, C) float64
    labels: np.ndarray  # (R,) int64

    @property
    def guesses(self) -> np.ndarray:
        """(R,), the most probable class."""
        return self.log_probs.argmax(axis=1)

    @property
    def confusion(self) -> np.ndarray:
        """(C, C), rows of a class by what they are called."""
        return confusion_matrix(self.log_probs, self.labels)

    def take(self, rows: np.ndarray) -> "Predictions":
        """Some of the rows, perhaps several times."""
        return Predictions(self.log_probs[rows], self.labels[rows])


def predict_rows(
    model: GPT, head: Head, rows: Rows, *, batch_size: int, forward_context: ForwardContext
) -> Predictions:
    """The head's verdict on every row, in the rows' own order.

    Args:
        batch_size: rows at a time.

    Raises:
        UserError: the model gives no numbers.
    """
    order = rows.reading_order()
    found, labels = [], []
    with inference(model, forward_context) as device, unit_progress("Reading", len(order), "rows") as advance:
        for start in range(0, len(order), batch_size):
            batch = rows[order[start : start + batch_size]]
            there = on_device(batch, device)
            logits = head(model(there["ids"]), there)  # (B, C)
            found.append(logits.double().log_softmax(dim=-1).cpu())
            labels.append(batch["labels"])
            advance(len(logits))
    log_probs, classes = torch.cat(found).numpy(), torch.cat(labels).numpy()
    require_numbers("log probability", float(log_probs.sum()))
    back = np.argsort(order)
    return Predictions(log_probs[back], classes[back])


def loss(verdicts: Predictions) -> float:
    """Mean cross entropy in nats."""
    return float(-verdicts.log_probs[np.arange(len(verdicts.labels)), verdicts.labels].mean())


def accuracy(verdicts: Predictions) -> float:
    """Share of rows whose most probable class is theirs."""
    return float((verdicts.guesses == verdicts.labels).mean())


def balanced_accuracy(verdicts: Predictions) -> float:
    """Mean over the classes that there are of the share of their rows that is found: 1 / C by chance."""
    confusion = verdicts.confusion
    rows = confusion.sum(axis=1)
    return float((np.diag(confusion)[rows > 0] / rows[rows > 0]).mean())


def precision(verdicts: Predictions) -> float:
    """Of the rows said to be of a class, the share that is; of two classes the second's, of more their mean."""
    confusion = verdicts.confusion
    return _over_classes(np.diag(confusion), confusion.sum(axis=0), confusion)


def recall(verdicts: Predictions) -> float:
    """Of a class's rows, the share that is found; of two classes the second's, of more their mean."""
    confusion = verdicts.confusion
    return _over_classes(np.diag(confusion), confusion.sum(axis=1), confusion)


def f1(verdicts: Predictions) -> float:
    """2 P R / (P + R); of two classes the second's, of more their mean."""
    confusion = verdicts.confusion
    return _over_classes(2 * np.diag(confusion), confusion.sum(axis=0) + confusion.sum(axis=1), confusion)


def auroc(verdicts: Predictions) -> float:
    """How probable it is that a row of the class is given a higher probability of it than a row of another class.

    Of two classes the second's, of more the mean over those that there are; nan where there is but one.
    """
    n_classes = verdicts.log_probs.shape[1]
    found = []
    for which in [1] if n_classes == 2 else range(n_classes):
        own = verdicts.labels == which
        if own.any() and not own.all():
            found.append(_rank_share(verdicts.log_probs[:, which], own))
    return float(np.mean(found)) if found else math.nan


def calibration_error(verdicts: Predictions) -> float:
    """How far confidence and accuracy lie apart, over bins of confidence."""
    return reliability(verdicts.log_probs, verdicts.labels).error


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


def in_words(log_probs: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """The most probable class of one row, and how probable each is.   (C,) -> plain values"""
    probabilities = np.exp(log_probs).tolist()
    return {
        "called": names[int(log_probs.argmax())],
        "probabilities": {name: round(p, 6) for name, p in zip(names, probabilities, strict=True)},
    }


def summarise(verdicts: Predictions, *, seed: int) -> dict[str, dict[str, Any]]:
    """Each measure with its 95 % interval over rows drawn anew (percentiles; none of fewer than MIN_UNITS rows)."""
    n = len(verdicts.labels)
    draws = [verdicts.take(rows) for rows in _draws(n, seed)] if n >= MIN_UNITS else []
    return {
        name: with_interval(measure(verdicts), _middle([measure(draw) for draw in draws]))
        for name, measure in MEASURES.items()
    }


def paired_difference(
    a: Predictions, b: Predictions, measure: Callable[[Predictions], float], *, seed: int
) -> Difference:
    """a's value - b's, over the same rows."""
    value = measure(a) - measure(b)
    if len(a.labels) < MIN_UNITS:
        return Difference(value, None)
    draws = [measure(a.take(rows)) - measure(b.take(rows)) for rows in _draws(len(a.labels), seed)]
    return Difference(value, _middle(draws))


def _draws(n_rows: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(n_rows, size=(N_RESAMPLES, n_rows))


def _middle(values: list[float]) -> Interval | None:
    """95 % of those that are numbers; None where none is."""
    numbers = np.array([value for value in values if math.isfinite(value)])
    return Interval(*np.percentile(numbers, PERCENTILES).tolist()) if len(numbers) else None


def _over_classes(right: np.ndarray, of: np.ndarray, confusion: np.ndarray) -> float:
    """0 for a class that is never said or never there; of more than two, classes that are neither do not count."""
    shares = np.divide(right, of, out=np.zeros(len(of)), where=of > 0)
    if len(shares) == 2:
        return float(shares[1])
    there = (confusion.sum(axis=0) + confusion.sum(axis=1)) > 0
    return float(shares[there].mean())


def _rank_share(scores: np.ndarray, own: np.ndarray) -> float:
    """Mann and Whitney's U over all pairs; equal scores count half."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]  # (R,), from 1 on, ties in the middle
    n_own, n_other = own.sum(), (~own).sum()
    return float((ranks[own].sum() - n_own * (n_own + 1) / 2) / (n_own * n_other))
