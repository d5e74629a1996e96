"""The summary of a run, as summary.json and as a table."""

import json
import logging
import math
import shlex
import textwrap
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from gptlab.console import capitalised, print_text
from gptlab.heads.protocol import Monitor
from gptlab.storage.atomic import atomic_write
from gptlab.storage.run_folder import PRUNED
from gptlab.training.context import DivergedError

log = logging.getLogger(__name__)

PROMPT_CHARACTERS = 16  # of the prompt in the next command
AVERAGE_NOTE = "best.ckpt has the average of the weights, last.ckpt the weights themselves"
OUT_OF_TIME = "out of time"  # status of a run that trainer.max_time ended; not a finished one


def write_summary(summary: dict[str, Any], folder: Path) -> None:
    """Write `summary.json` atomically.

    A number that is not finite becomes null, because JSON cannot express it.
    """
    atomic_write(folder / "summary.json", json.dumps(_replace_non_finite(summary), indent=2, allow_nan=False) + "\n")


def collect_progress(trainer: Any, folder: Path) -> dict[str, Any]:
    """Return the results that the trainer and callbacks hold after training."""
    from gptlab.hardware.precision import effective_precision
    from gptlab.training.callbacks.throughput import Throughput
    from gptlab.training.callbacks.validation import validation_metrics

    throughput = next(callback for callback in trainer.callbacks if isinstance(callback, Throughput))
    return {
        "status": _status(trainer),
        "folder": str(folder),
        "steps": trainer.global_step,
        "tokens": throughput.tokens,
        "seconds": round(throughput.seconds, 3),  # spent in training steps
        "seconds_before": round(throughput.seconds_before, 3),  # in all, of the run that was resumed
        "tokens_per_second": round(throughput.tokens / max(throughput.seconds, 1e-9), 1),
        "memory_gb": round(throughput.memory / 1e9, 3),  # the most in use at a logged step
        "precision": effective_precision(trainer.precision),
        "val": validation_metrics(trainer),
        **_collect_comparable(trainer),
        **_collect_average(trainer),
        "checkpoints": list_checkpoints(folder),
        "tensorboard": any(folder.glob("events.out.tfevents.*")),
    }


def _collect_average(trainer: Any) -> dict[str, Any]:
    """Return the decay of the average of the weights, if the run has one."""
    from gptlab.training.callbacks.average import AverageWeights

    decays = [callback.decay for callback in trainer.callbacks if isinstance(callback, AverageWeights)]
    return {"average_decay": decays[0]} if decays and decays[0] is not None else {}


def _status(trainer: Any) -> str:
    """Return finished, pruned, out of time or stopped early."""
    from gptlab.training.callbacks.early_stopping import StopHopeless
    from gptlab.training.callbacks.signals import StopOnTime

    if trainer.global_step >= trainer.max_steps:
        return "finished"
    if any(isinstance(callback, StopHopeless) and callback.is_hopeless for callback in trainer.callbacks):
        return PRUNED
    out_of_time = any(isinstance(callback, StopOnTime) and callback.is_up for callback in trainer.callbacks)
    return OUT_OF_TIME if out_of_time else "stopped early"


def _collect_comparable(trainer: Any) -> dict[str, Any]:
    """Return the first and the best validation.

    With one before the first step, `best` may be that one, of step 0; `best_trained` is the best after it.
    """
    from gptlab.training.callbacks.checkpoints import BestCheckpoint, Validation
    from gptlab.training.callbacks.validation import StartValidation

    best = next((callback for callback in trainer.callbacks if isinstance(callback, BestCheckpoint)), None)
    start = next((callback for callback in trainer.callbacks if isinstance(callback, StartValidation)), None)
    step, metrics = best.best if best else Validation()
    values = {"best": dict(metrics), "best_step": step}
    if start is None or not start.metrics:
        return values
    trained = dict(best.best_trained.metrics) if best else {}
    return {"start": start.metrics, "started_from": start.weights, **values, "best_trained": trained}


def best_weights(summary: dict[str, Any]) -> str:
    """Return the run's folder, or the weights that it started from if they are better."""
    return summary["started_from"] if summary["best_step"] == 0 else summary["folder"]


def compare_with_start(summary: dict[str, Any], monitor: Monitor) -> str | None:
    """Return a sentence about a run that ends worse than it began.

    None for a run that ends no worse, and for one that was not validated before its first step.
    """
    start, final = (summary.get(stage, {}).get(monitor.name) for stage in ("start", "val"))
    sign = 1 if monitor.mode == "min" else -1
    if start is None or final is None or (sign * final <= sign * start and summary["best_step"] != 0):
        return None
    name, best = monitor.name.replace("/", " "), (summary["best_trained"] or summary["val"])[monitor.name]
    numbers = f"{name} {start:.4g} at the start, {best:.4g} at its best after it, {final:.4g} at the end"
    if summary["best_step"] == 0:
        verdict = "did not improve the model" if best == start else "made the model worse"
        return (
            f"the run {verdict}: {numbers}; its best weights are those it started from, {summary['started_from']}: use "
            "them, or train again with a lower optim.lr"
        )
    kept = f"step {summary['best_step']} was the best, in best.ckpt" if summary["best"] else "no others were kept"
    return f"the final weights are worse than those the run started from: {numbers}; {kept}"


def record_stop(folder: Path, error: BaseException, trainer: Any) -> None:
    """Write an interrupted run's summary; log what it has saved and how to resume it."""
    interrupted = isinstance(error, KeyboardInterrupt) or (isinstance(error, SystemExit) and error.code in (130, 143))
    status = "interrupted" if interrupted else "failed"
    comparable, saved, steps = _collect_comparable(trainer), list_checkpoints(folder), trainer.global_step
    try:
        write_summary({"status": status, "steps": steps, **comparable, "checkpoints": saved}, folder)
    except OSError as full:  # perhaps what ended the run too
        log.warning(f"summary.json cannot be written ({full})")
    saved_steps = {"last": _last_saved_step(trainer), "best": comparable["best_step"]}
    log.warning(f"{status} at step {steps}; {_what_is_left(folder, saved, saved_steps, error)}")


def _what_is_left(folder: Path, saved: Collection[str], steps: Mapping[str, int | None], error: BaseException) -> str:
    """Return what an interrupted run has saved, and how to resume it.

    Args:
        saved: names of the checkpoints.
        steps: name of a checkpoint -> its step, None where it is unknown.
    """
    if not saved:
        return "nothing was saved before"
    known = {name: step for name, step in steps.items() if name in saved and step}
    held = " and ".join(f"{name}.ckpt holds step {step:,}" for name, step in known.items())
    path = shlex.quote(str(folder))
    if isinstance(error, DivergedError):  # a resumed run would diverge again, bit for bit
        advice = f"start from these weights with weights=run weights.run={path}"
    elif "last" in saved:
        advice = f"resume with: gptlab train resume={path}"
    else:
        advice = "without a last.ckpt it cannot be resumed"
    return "; ".join([*([held] if held else []), advice])


def _last_saved_step(trainer: Any) -> int | None:
    from gptlab.training.callbacks.checkpoints import LastCheckpoint

    return next((each.saved_step for each in trainer.callbacks if isinstance(each, LastCheckpoint)), None)


def list_checkpoints(folder: Path) -> dict[str, str]:
    """Return the run's checkpoints by name."""
    return {path.stem: str(path) for path in sorted((folder / "checkpoints").glob("*.ckpt"))}


def show_summary(summary: dict[str, Any], console: Console) -> None:
    """Print a run's summary and the next commands to type.

    A narrow terminal does not truncate the commands.
    """
    folder = summary["folder"]
    table = Table(title=f"{summary['status']} after {summary['steps']:,} steps", title_justify="left")
    best_column, best = ("val, best", "best") if summary["best_step"] != 0 else ("val, best after", "best_trained")
    columns = {
        **({"train": (summary["train"], "train")} if summary["train"] else {}),
        **({"val, start": (summary["start"], "val")} if "start" in summary else {}),
        "val, final": (summary["val"], "val"),
        **({best_column: (summary[best], "val")} if summary["best"] else {}),
        **({f"test, {summary['test_of']}": (summary["test"], "test")} if "test" in summary else {}),
    }
    for column in ("", *columns):
        table.add_column(column, justify="right" if column else "left", overflow="fold")
    for name in _names(summary):
        values = (metrics.get(f"{stage}/{name}") for metrics, stage in columns.values())
        table.add_row(name.replace("_", " "), *("" if value is None else f"{value:.4g}" for value in values))
    console.print(table)
    comparison, out_of_time = capitalised(summary.get("comparison", "")), summary["status"] == OUT_OF_TIME
    lines = [
        f"{summary['parameters']:,} parameters, {summary['precision']}",
        f"{summary['tokens']:,} tokens in {summary['seconds']:.0f} s of training: "
        f"{summary['tokens_per_second']:,.0f} a second ({summary['total_seconds']:.0f} s in all)",
        f"The run is in {folder}",
        *([AVERAGE_NOTE] if "average_decay" in summary else []),
        *(["", comparison] if comparison else []),
        "",
        *(["The time was up; resume with", f"  gptlab train resume={shlex.quote(folder)}", ""] if out_of_time else []),
        "Next, with the weights that the run started from" if summary["best_step"] == 0 else "Next",
        f"  {summary['next_command']}",
        *[f"  tensorboard --logdir {shlex.quote(str(Path(folder).parent))}"] * summary["tensorboard"],
    ]
    print_text("\n".join(lines), console, marks={comparison: "red"} if comparison else {})


def shorten_prompt(text: str) -> str:
    """Return the beginning of a text, so short that a command fits 80 columns."""
    return textwrap.shorten(text, PROMPT_CHARACTERS, placeholder="") or text.strip()[:PROMPT_CHARACTERS]


def _names(summary: dict[str, Any]) -> list[str]:
    """Return the metrics' names without stage, in the head's order."""
    return list(dict.fromkeys(key.split("/")[1] for stage in ("train", "val", "best") for key in summary[stage]))


def _replace_non_finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _replace_non_finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
