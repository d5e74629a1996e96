"""Metrics of a classifier.   N rows, C classes

Imported only when a head is asked for its metrics, because torchmetrics takes seconds to load. Each is exact for
batches of any size and over ranks. Classes without rows are left out of means.
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
    """Return new metrics by name.

    Precision, recall and F1 are those of the second of two classes, and means over more than two.
    """
    per_class: dict[str, Any] = {"num_classes": n_classes, "average": "none", "validate_args": False}
    return {
        "accuracy": Accuracy(n_classes, average="micro", validate_args=False),
        "balanced_accuracy": BalancedAccuracy(**per_class),
        "precision": Precision(**per_class),
        "recall": Recall(**per_class),
        "f1": F1(**per_class),
        "auroc": AUROC(**per_class),
        "calibration_error": CalibrationError(n_classes, n_bins=N_BINS, norm="l1", validate_args=False),
    }


class FromLoss(Metric):
    """Passes a head's probabilities and labels to a metric of torchmetrics.

    The metric is the next base class: `class Accuracy(FromLoss, MulticlassAccuracy)`.
    """

    def update(self, loss: Any, batch: Any) -> None:  # a Loss and a Batch; the next base takes two tensors
        """Add one batch: logits (B, C) and labels (B,)."""
        super().update(loss.logits.softmax(-1), batch["labels"])  # type: ignore[safe-super]


class Accuracy(FromLoss, MulticlassAccuracy):
    """The share of rows whose most probable class is their label."""


class BalancedAccuracy(FromLoss, MulticlassRecall):
    """The mean of the classes' recalls."""

    def compute(self) -> Tensor:
        """-> ()"""
        return super().compute()[self.tp + self.fn > 0].mean()  # type: ignore[operator]


class SecondClassOrMean(FromLoss):
    """Reduces a score for each class to one number."""

    def compute(self) -> Tensor:
        """-> ()"""
        scores = super().compute()  # type: ignore[safe-super]  # (C,)
        return scores[1] if len(scores) == 2 else scores[self.tp + self.fp + self.fn > 0].mean()  # type: ignore[operator]


class Precision(SecondClassOrMean, MulticlassPrecision):
    """The share of rows predicted as a class that belong to it."""


class Recall(SecondClassOrMean, MulticlassRecall):
    """The share of a class's rows that are predicted as that class."""


class F1(SecondClassOrMean, MulticlassF1Score):
    """The harmonic mean of precision and recall."""


class AUROC(FromLoss, MulticlassAUROC):
    """The mean area under the classes' ROC curves.

    The area is the chance that a row of a class gets a higher probability of it than a row of another class. It is nan
    if all rows are of one class.
    """

    def compute(self) -> Tensor:  # type: ignore[override]  # as MulticlassAUROC's own does
        """-> ()"""
        probabilities, labels = dim_zero_cat(self.preds), dim_zero_cat(self.target)  # (N, C), (N,)
        present = labels.unique()
        if len(present) < 2:
            return torch.tensor(torch.nan)
        areas = [binary_auroc(probabilities[:, c], (labels == c).long(), validate_args=False) for c in present]
        return torch.stack(areas).mean()


class CalibrationError(FromLoss, MulticlassCalibrationError):
    """The expected calibration error, see `Reliability.error` in counts.py."""
