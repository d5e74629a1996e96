"""Metrics of a run's final weights, for summary.json."""

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from gptlab.data.protocol import Prepared, Rows
from gptlab.evaluation.inference import compute_metrics
from gptlab.hardware.precision import ForwardContext
from gptlab.weights.restore import load_best

N_TRAIN_SAMPLE = 200  # training rows to measure the final weights on


def measure_final(
    modules: nn.ModuleDict,
    data: Prepared,
    *,
    folder: Path,
    val: dict[str, float],
    batch_size: int,
    forward_context: ForwardContext,
) -> dict[str, Any]:
    """Return a run's final metrics on each split.

    The final weights are measured on a sample of the training set and on the validation set, the best weights on the
    test set.

    Args:
        modules: the `model` and its `head`.
        folder: the run's folder, with its best weights.
        val: metrics of the validation after the last step; empty if the process was killed before it.
    """
    model, head = modules["model"], modules["head"]

    def compute(stage: str, rows: Rows, row_numbers: np.ndarray) -> dict[str, float]:
        batches = (rows[part] for part in np.array_split(row_numbers, -(-len(row_numbers) // batch_size)))
        return compute_metrics(model, head, batches, stage=stage, forward_context=forward_context)  # type: ignore[arg-type]

    order = data.train.reading_order()
    sample = order[
        np.unique(np.linspace(0, len(order) - 1, N_TRAIN_SAMPLE).astype(int))
    ]  # spread over the training set
    metrics: dict[str, Any] = {
        "train": compute("train", data.train, sample),
        "val": val or compute("val", data.val, data.val.reading_order()),
    }
    if data.test is not None:
        metrics["test_of"] = load_best(modules, folder)  # Run.open loads these weights
        metrics["test"] = compute("test", data.test, data.test.reading_order())
    return metrics
