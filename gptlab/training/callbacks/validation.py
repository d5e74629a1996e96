"""Metrics of the last validation."""

import lightning as L


def validation_metrics(trainer: L.Trainer) -> dict[str, float]:
    """Return `val/<metric>` -> value, the head's own metrics first.

    The values are over the whole validation set.
    """
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
    own = [f"val/{name}" for name in trainer.lightning_module.metrics]  # type: ignore[union-attr]
    return {name: metrics[name] for name in (*own, *metrics) if name in metrics}
