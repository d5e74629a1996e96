"""Metrics of a classifier; imported only when a head is asked for them, for torchmetrics takes seconds to load.

N rows, C classes. Each is exact over any batches, and over ranks; classes that no row is of are left out of a mean.
"""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassCalibrationError,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
)
from torchmetrics.functional.classification import binary_auroc
from torchmetrics.utilities.data import dim_zero_cat

from gptlab.heads.counts import N_BINS


def class_metrics(n_classes: int) -> dict[str, Metric]:
    """By name. Of two classes precision, recall and F1 are the second one's; of more, the mean over classes."""
    of_each: dict[str, Any] = {"num_classes": n_classes, "average": "none", "validate_args": False}
    return {
        "accuracy": Accuracy(n_classes, average="micro", validate_args=False),
        "balanced_accuracy": BalancedAccuracy(**of_each),
        "precision": Precision(**of_each),
        "recall": Recall(**of_each),
        "f1": F1(**of_each),
        "auroc": AUROC(**of_each),
        "calibration_error": CalibrationError(n_classes, n_bins=N_BINS, norm="l1", validate_args=False),
    }


class FromLoss(Metric):
    """Takes what a head gives, for a metric of torchmetrics that stands behind it in the order of bases."""

    def update(self, loss: Any, batch: Any) -> None:  # a Loss and a Batch, but two tensors to the bases behind
        """Adds one batch: logits (B, C) and labels (B,)."""
        super().update(loss.logits.softmax(-1), batch["labels"])  # type: ignore[safe-super]


class Accuracy(FromLoss, MulticlassAccuracy):
    """The share of rows whose likeliest class is theirs."""


class BalancedAccuracy(FromLoss, MulticlassRecall):
    """The mean over classes of the share of their rows that are found."""

    def compute(self) -> Tensor:
        """()"""
        return super().compute()[self.tp + self.fn > 0].mean()  # type: ignore[operator]


class OfSecondOrMean(FromLoss):
    """A score for each class becomes one number."""

    def compute(self) -> Tensor:
        """()"""
        scores = super().compute()  # type: ignore[safe-super]  # (C,)
        return scores[1] if len(scores) == 2 else scores[self.tp + self.fp + self.fn > 0].mean()  # type: ignore[operator]


class Precision(OfSecondOrMean, MulticlassPrecision):
    """Of the rows that are said to be of a class, the share that are."""


class Recall(OfSecondOrMean, MulticlassRecall):
    """Of the rows of a class, the share that are said to be."""


class F1(OfSecondOrMean, MulticlassF1Score):
    """The harmonic mean of precision and recall."""


class AUROC(FromLoss, MulticlassAUROC):
    """The chance that a row of a class gets a higher probability of it than one of another class, a mean over classes.

    Not a number where all rows are of one class: there is no other.
    """

    def compute(self) -> Tensor:  # type: ignore[override]  # as MulticlassAUROC's own
        """()"""
        probabilities, labels = dim_zero_cat(self.preds), dim_zero_cat(self.target)  # (N, C), (N,)
        there = labels.unique()
        if len(there) < 2:
            return torch.tensor(torch.nan)
        areas = [binary_auroc(probabilities[:, c], (labels == c).long(), validate_args=False) for c in there]
        return torch.stack(areas).mean()


class CalibrationError(FromLoss, MulticlassCalibrationError):
    """How far confidence is from accuracy: a mean over bins of confidence, weighted by their rows; 0 is best."""
