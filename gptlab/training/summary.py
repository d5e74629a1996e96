"""The summary of a run, as summary.json and as a table."""

import json
import logging
import math
import shlex
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from gptlab.storage.atomic import atomic_write

log = logging.getLogger(__name__)


def write_summary(summary: dict[str, Any], folder: Path) -> None:
    """Write `summary.json` atomically.

    A number that is not finite becomes null, because JSON cannot express it.
    """
    atomic_write(folder / "summary.json", json.dumps(_replace_non_finite(summary), indent=2, allow_nan=False) + "\n")


def collect_progress(trainer: Any, folder: Path) -> dict[str, Any]:
    """Return the results that the trainer and callbacks hold after training."""
    from gptlab.hardware.precision import effective_precision
    from gptlab.training.callbacks.checkpoints import BestCheckpoint
    from gptlab.training.callbacks.throughput import Throughput
    from gptlab.training.callbacks.validation import validation_metrics

    best = next((callback for callback in trainer.callbacks if isinstance(callback, BestCheckpoint)), None)
    throughput = next(callback for callback in trainer.callbacks if isinstance(callback, Throughput))
    return {
        "status": "finished" if trainer.global_step >= trainer.max_steps else "stopped early",
        "folder": str(folder),
        "steps": trainer.global_step,
        "tokens": throughput.tokens,
        "seconds": round(throughput.seconds, 3),  # spent in training steps
        "tokens_per_second": round(throughput.tokens / max(throughput.seconds, 1e-9), 1),
        "precision": effective_precision(trainer.precision),
        "val": validation_metrics(trainer),
        "best": best.metrics if best else {},
        "best_step": best.step if best else None,
        "checkpoints": list_checkpoints(folder),
    }


def record_stop(folder: Path, error: BaseException, *, steps: int) -> None:
    """Write an interrupted run's summary; log how to resume it."""
    interrupted = isinstance(error, KeyboardInterrupt) or (isinstance(error, SystemExit) and error.code in (130, 143))
    status = "interrupted" if interrupted else "failed"
    saved = list_checkpoints(folder)
    write_summary({"status": status, "steps": steps, "checkpoints": saved}, folder)
    advice = f"resume with: python train.py resume={shlex.quote(str(folder))}"
    log.warning(f"{status} at step {steps}; " + (advice if "last" in saved else "no checkpoint was saved yet"))


def list_checkpoints(folder: Path) -> dict[str, str]:
    """Return the run's checkpoints by name."""
    return {path.stem: str(path) for path in sorted((folder / "checkpoints").glob("*.ckpt"))}


def show_summary(summary: dict[str, Any], console: Console) -> None:
    """Print a run's summary and the next commands to type.

    A narrow terminal does not truncate the commands.
    """
    folder = summary["folder"]
    table = Table(title=f"{summary['status']} after {summary['steps']:,} steps", title_justify="left")
    columns = {
        "train": (summary["train"], "train"),
        "val, final": (summary["val"], "val"),
        **({"val, best": (summary["best"], "val")} if summary["best"] else {}),
        **({f"test, {summary['test_of']}": (summary["test"], "test")} if "test" in summary else {}),
    }
    for column in ("", *columns):
        table.add_column(column, justify="right" if column else "left")
    for name in _names(summary):
        values = (metrics.get(f"{stage}/{name}") for metrics, stage in columns.values())
        table.add_row(name.replace("_", " "), *("" if value is None else f"{value:.4g}" for value in values))
    console.print(table)
    lines = [
        f"{summary['parameters']:,} parameters, {summary['precision']}",
        f"{summary['tokens']:,} tokens in {summary['seconds']:.0f} s of training: "
        f"{summary['tokens_per_second']:,.0f} a second ({summary['total_seconds']:.0f} s in all)",
        f"The run is in {folder}",
        "",
        "Next",
        f"  {summary['next_command']}",
        f"  tensorboard --logdir {shlex.quote(str(Path(folder).parent))}",
    ]
    console.print("\n".join(lines), soft_wrap=True, highlight=False, markup=False)


def _names(summary: dict[str, Any]) -> list[str]:
    """Return the metrics' names without stage, in the head's order."""
    return list(dict.fromkeys(key.split("/")[1] for stage in ("train", "val", "best") for key in summary[stage]))


def _replace_non_finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _replace_non_finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
