"""Counts of a classifier's predictions.   R rows, C classes."""

from typing import NamedTuple

import numpy as np

N_BINS = 15  # of confidence, as in "On Calibration of Modern Neural Networks" (arXiv 1706.04599)


def confusion_matrix(log_probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Count the rows of each class by their predicted class.

    (R, C), (R,) -> (C, C)
    """
    n_classes = log_probs.shape[1]
    pairs = labels * n_classes + log_probs.argmax(axis=1)
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


class Reliability(NamedTuple):
    """Predictions in bins of confidence, equally wide from 0 to 1."""

    counts: np.ndarray  # (N_BINS,), rows
    confidence: np.ndarray  # (N_BINS,), mean probability of the predicted class; nan without rows
    accuracy: np.ndarray  # (N_BINS,), share of correct predictions; nan without rows

    @property
    def error(self) -> float:
        """Return the mean distance of confidence from accuracy, weighted by rows.

        It is the expected calibration error (arXiv 1706.04599, eq. 3).
        """
        filled = self.counts > 0
        distance = np.abs(self.accuracy - self.confidence)[filled]
        return float((self.counts[filled] * distance).sum() / self.counts.sum())


def reliability(log_probs: np.ndarray, labels: np.ndarray) -> Reliability:
    """Sort predictions into bins of confidence.

    (R, C), (R,) -> Reliability
    """
    confidence, correct = np.exp(log_probs.max(axis=1)), log_probs.argmax(axis=1) == labels  # (R,) each
    bins = np.clip(np.ceil(confidence * N_BINS).astype(int) - 1, 0, N_BINS - 1)
    counts = np.bincount(bins, minlength=N_BINS)
    sums = (np.bincount(bins, values, minlength=N_BINS) for values in (confidence, correct))
    return Reliability(counts, *(np.divide(s, counts, out=np.full(N_BINS, np.nan), where=counts > 0) for s in sums))
