"""A classifier's metrics equal those of scikit-learn and torchmetrics."""

import numpy as np
import pytest
import torch
from sklearn import metrics
from torchmetrics.functional.classification import multiclass_calibration_error

from gptlab.evaluation.classification import (
    MEASURES,
    Predictions,
    accuracy,
    paired_difference,
    summarise,
)


def drawn(n_rows: int, n_classes: int, *, seed: int = 0, skill: float = 1.0) -> Predictions:
    chance = np.random.default_rng(seed)
    labels = chance.integers(n_classes, size=n_rows)
    logits = chance.normal(size=(n_rows, n_classes)) + skill * np.eye(n_classes)[labels]
    return Predictions(torch.from_numpy(logits).log_softmax(-1).numpy(), labels)


@pytest.mark.parametrize("n_classes", [2, 5])
def test_every_measure_is_the_known_one(n_classes: int) -> None:
    predictions = drawn(300, n_classes)
    labels, predicted, probs = predictions.labels, predictions.predicted, np.exp(predictions.log_probs)
    average = {"average": "binary" if n_classes == 2 else "macro"}
    known = {
        "loss": metrics.log_loss(labels, probs),
        "accuracy": metrics.accuracy_score(labels, predicted),
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, predicted),
        "precision": metrics.precision_score(labels, predicted, **average),
        "recall": metrics.recall_score(labels, predicted, **average),
        "f1": metrics.f1_score(labels, predicted, **average),
        "auroc": metrics.roc_auc_score(labels, probs[:, 1] if n_classes == 2 else probs, multi_class="ovr"),
        "calibration_error": float(
            multiclass_calibration_error(torch.from_numpy(probs), torch.from_numpy(labels), n_classes, n_bins=15)
        ),
    }
    assert {name: measure(predictions) for name, measure in MEASURES.items()} == pytest.approx(known, abs=1e-6)
    assert predictions.confusion.tolist() == metrics.confusion_matrix(labels, predicted).tolist()


def test_equal_scores_count_half() -> None:
    predictions = Predictions(np.log(np.full((4, 2), 0.5)), np.array([0, 1, 0, 1]))
    assert MEASURES["auroc"](predictions) == 0.5


def test_a_single_class_has_no_auroc() -> None:
    alone = Predictions(drawn(30, 2).log_probs, np.zeros(30, dtype=int))
    assert summarise(alone, seed=0)["auroc"]["value"] is None


def test_the_interval_of_the_accuracy_is_that_of_a_share() -> None:
    predictions = drawn(400, 2)
    entry, share = summarise(predictions, seed=0)["accuracy"], accuracy(predictions)
    half = 1.96 * (share * (1 - share) / 400) ** 0.5
    assert entry["low"] == pytest.approx(share - half, abs=0.01)
    assert entry["high"] == pytest.approx(share + half, abs=0.01)
    assert summarise(drawn(10, 2), seed=0)["accuracy"]["low"] is None  # too few rows to tell


def test_a_difference_is_significant_if_one_is_better_on_the_same_rows() -> None:
    a, b = drawn(500, 3, skill=2.0), drawn(500, 3, skill=1.0)  # the same labels and chance
    assert paired_difference(a, b, accuracy, seed=0).significant
    assert paired_difference(a, b, accuracy, seed=0).value == pytest.approx(accuracy(a) - accuracy(b))
    assert not paired_difference(a, a, accuracy, seed=0).significant
