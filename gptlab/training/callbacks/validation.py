"""What the last validation found."""

import lightning as L


def validation_metrics(trainer: L.Trainer) -> dict[str, float]:
    """`val/<metric>` -> its value over the whole validation set."""
    return {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
