"""Values of each run, for `gptlab compare`."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gptlab.config.hparams import main_choices
from gptlab.config.plain import flat
from gptlab.model.architecture import architecture_of
from gptlab.run import Run
from gptlab.storage.checkpoint import find_checkpoint
from gptlab.weights.hub import is_pretrained


def comparable_config(run: Run) -> dict[str, Any]:
    """Return the choice from each group, then the configuration values to compare runs by.

    The model's are read from the built model, so that equivalent configurations are equal. A published model has made
    no choices.
    """
    values = {
        key: value
        for key, value in flat(run.cfg)
        if not key.startswith("model.")
        and not key.endswith("cache_dir")
        and not key.endswith(("._convert_", "._partial_"))
    }
    model = {f"model.{name}": value for name, value in asdict(architecture_of(run.model)).items()}
    return {
        **(main_choices(run.record["choices"]) if run.record else {}),
        **{key: value for key, value in values.items() if key not in ("name", "output_dir", "resume")},
        **{key: float(f"{value:.6g}") if isinstance(value, float) else value for key, value in model.items()},
        "model.drop_rate": run.cfg.model.drop_rate,
    }


def check_paths(paths: Sequence[str]) -> None:
    """Raise a FileNotFoundError for the first unreadable path, before opening any."""
    for path in (Path(path).expanduser() for path in paths):
        if not is_pretrained(str(path)):
            find_checkpoint(path)
