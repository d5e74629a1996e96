"""What the weights at the end of a run are worth: parts of summary.json."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from gptlab.data.protocol import Prepared, Rows
from gptlab.evaluation.inference import measure
from gptlab.weights.restore import take_best

N_TRAIN_SAMPLE = 200  # training windows that the final weights are measured on


def measure_final(
    modules: nn.ModuleDict,
    data: Prepared,
    *,
    folder: Path,
    val: dict[str, float],
    batch_size: int,
    forward_context: Callable[[], AbstractContextManager[Any]],
) -> dict[str, Any]:
    """Measure on a sample of the training set, on the validation set, and the best weights on the test set.

    Args:
        modules: the `model` and its `head`.
        folder: the run's, with its best weights.
        val: of the last validation, which the last step had; empty where the program was killed before it.
    """
    model, head = modules["model"], modules["head"]

    def measured(stage: str, rows: Rows, which: np.ndarray) -> dict[str, float]:
        batches = (rows[split] for split in np.array_split(which, -(-len(which) // batch_size)))
        return measure(model, head, batches, stage=stage, forward_context=forward_context())  # type: ignore[arg-type]

    order = data.train.reading_order()
    sample = order[np.unique(np.linspace(0, len(order) - 1, N_TRAIN_SAMPLE).astype(int))]  # from all over
    found: dict[str, Any] = {
        "train": measured("train", data.train, sample),
        "val": val or measured("val", data.val, data.val.reading_order()),
    }
    if data.test is not None:
        found["test_of"] = take_best(modules, folder)  # what whoever opens the run has
        found["test"] = measured("test", data.test, data.test.reading_order())
    return found
