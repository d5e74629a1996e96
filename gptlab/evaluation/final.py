"""Metrics of a run's final weights, for summary.json."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from gptlab.batch import Batch
from gptlab.console import unit_progress
from gptlab.data.protocol import Prepared, Rows
from gptlab.evaluation.inference import compute_metrics
from gptlab.hardware.precision import ForwardContext
from gptlab.weights.restore import load_best

log = logging.getLogger(__name__)

N_TRAIN_SAMPLE = 200  # training rows to measure the final weights on


def measure_final(
    modules: nn.ModuleDict,
    data: Prepared,
    *,
    wanted: bool,
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
        wanted: whether to measure the training and the test set; the validation set always is.
        folder: the run's folder, with its best weights.
        val: metrics of the validation after the last step; empty if the process was killed before it.
    """
    model, head = modules["model"], modules["head"]

    def compute(stage: str, rows: Rows, numbers: np.ndarray) -> dict[str, float]:
        def batches() -> Iterator[Batch]:
            for batch in np.array_split(numbers, -(-len(numbers) // batch_size)):
                yield rows[batch]
                advance(len(batch))

        with unit_progress(f"Final evaluation: {stage}", len(numbers), "rows") as advance:
            return compute_metrics(model, head, batches(), stage=stage, forward_context=forward_context)  # type: ignore[arg-type]

    metrics: dict[str, Any] = {"train": {}, "val": val or compute("val", data.val, data.val.reading_order())}
    if not wanted:
        return metrics
    order = data.train.reading_order()
    sample = order[np.unique(np.linspace(0, len(order) - 1, N_TRAIN_SAMPLE).astype(int))]  # spread over the set
    test = f" and {len(data.test):,} test rows" if data.test is not None else ""
    log.info(f"measuring {len(sample)} training rows{test} (final_evaluation=false leaves it out)")
    metrics["train"] = compute("train", data.train, sample)
    if data.test is not None:
        metrics["test_of"] = load_best(modules, folder)  # Run.open loads these weights
        metrics["test"] = compute("test", data.test, data.test.reading_order())
    return metrics
