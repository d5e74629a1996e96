"""A classifier's verdicts, counted.   R rows, C classes."""

from typing import NamedTuple

import numpy as np

N_BINS = 15  # of confidence, as in "On Calibration of Modern Neural Networks" (arXiv 1706.04599)


def confusion_matrix(log_probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Rows of a class, counted by what they are called.   (R, C), (R,) -> (C, C)"""
    n_classes = log_probs.shape[1]
    pairs = labels * n_classes + log_probs.argmax(axis=1)
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


class Reliability(NamedTuple):
    """Predictions by how sure they are; the bins are equally wide, and 0 to 1 together."""

    counts: np.ndarray  # (N_BINS,), rows
    confidence: np.ndarray  # (N_BINS,), their mean probability of the class they are called; nan without rows
    accuracy: np.ndarray  # (N_BINS,), the share of them that is right; nan without rows

    @property
    def error(self) -> float:
        """The mean distance of confidence from accuracy, bins weighted by their rows (ECE: arXiv 1706.04599)."""
        there = self.counts > 0
        distance = np.abs(self.accuracy - self.confidence)[there]
        return float((self.counts[there] * distance).sum() / self.counts.sum())


def reliability(log_probs: np.ndarray, labels: np.ndarray) -> Reliability:
    """(R, C), (R,) -> Reliability"""
    sure, right = np.exp(log_probs.max(axis=1)), log_probs.argmax(axis=1) == labels  # (R,) each
    bins = np.clip(np.ceil(sure * N_BINS).astype(int) - 1, 0, N_BINS - 1)
    counts = np.bincount(bins, minlength=N_BINS)
    sums = (np.bincount(bins, each, minlength=N_BINS) for each in (sure, right))
    return Reliability(
        counts, *(np.divide(each, counts, out=np.full(N_BINS, np.nan), where=counts > 0) for each in sums)
    )
