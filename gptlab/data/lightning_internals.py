"""Lightning's undocumented parts that data needs."""

from typing import Any


def batches_processed(trainer: Any) -> int:
    """Return the number of training batches processed so far.

    Relies on Lightning's `fit_loop.epoch_loop.batch_progress.total.processed`; at the end of a step `completed` still
    lags behind.
    """
    n_batches: int = trainer.fit_loop.epoch_loop.batch_progress.total.processed
    return n_batches
