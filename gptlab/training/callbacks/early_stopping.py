"""Stopping when validation no longer gets better."""

from lightning.pytorch.callbacks import EarlyStopping

from gptlab.training.context import RunContext


def early_stopping(context: RunContext, *, patience: int, min_delta: float) -> EarlyStopping:
    """Lightning's EarlyStopping on the head's own metric.

    Args:
        patience: validations without an improvement of at least `min_delta` that end the run.
    """
    name, mode = context.monitor
    return EarlyStopping(name, min_delta=min_delta, patience=patience, mode=mode, check_finite=True)
