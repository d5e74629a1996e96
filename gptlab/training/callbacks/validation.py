"""What the last validation found."""

import lightning as L


def validation_metrics(trainer: L.Trainer) -> dict[str, float]:
    """`val/<metric>` -> its value over the whole validation set, the head's own metrics first."""
    found = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
    own = [f"val/{name}" for name in trainer.lightning_module.metrics]  # type: ignore[union-attr]
    return {name: found[name] for name in (*own, *found) if name in found}
