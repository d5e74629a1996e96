"""Curves of a run, from the files that its loggers wrote."""

import logging
from collections.abc import Iterator
from csv import DictReader
from pathlib import Path
from typing import Any, NamedTuple

from gptlab.errors import MissingFileError, UserError

EVENT_FILES = "events.out.tfevents.*"
CSV_FILE = "metrics.csv"
BY_TOKENS = "by_tokens"  # folder of the curves whose steps are tokens, below the others


class Curve(NamedTuple):
    """A metric over the steps at which it was logged."""

    steps: list[int]
    values: list[float]


def read_curves(path: str | Path) -> dict[str, Curve]:
    """Return a run's curves by name, such as `val/loss`.

    The run may still be training. Where a resumed run repeated steps, the repetition counts.

        plt.plot(*read_curves(run.folder)["val/loss"])

    Args:
        path: the run's folder.

    Raises:
        MissingFileError: there is no such folder, or no curves in it.
        UserError: its `metrics.csv` is damaged.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise MissingFileError(f"{folder} is not a folder: give a run's, such as outputs/gpt/2026-11-22_18-37-54")
    parts = [part for part in _folders_with(folder, EVENT_FILES) if part.name != BY_TOKENS or part == folder]
    curves = {name: curve for part in parts for name, curve in _read_events(part)}
    for part in _folders_with(folder, CSV_FILE) if not curves else ():
        curves |= _read_csv(part / CSV_FILE)
    if not curves:
        raise MissingFileError(
            f"{folder} holds no curves: a run with logger=tensorboard or logger=csv writes them, once its first step "
            "is logged"
        )
    return curves


def _folders_with(folder: Path, pattern: str) -> list[Path]:
    """Return the run's folder and those in it that hold such files."""
    files = (file for depth in ("", "*/") for file in sorted(folder.glob(depth + pattern)) if file.is_file())
    return list(dict.fromkeys(file.parent for file in files))


def _read_events(folder: Path) -> Iterator[tuple[str, Curve]]:
    """Yield the curves in TensorBoard's files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    logging.getLogger("tensorboard").setLevel(logging.WARNING)  # it logs where each file ends
    every_value = {"scalars": 0, "tensors": 1, "images": 1, "histograms": 1}  # the default is a sample of 10,000
    events: Any = EventAccumulator(str(folder), size_guidance=every_value).Reload()
    for name in events.Tags()["scalars"]:
        values = {point.step: point.value for point in events.Scalars(name)}  # a resumed run may validate a step again
        yield name, Curve([*values], [*values.values()])


def _read_csv(path: Path) -> dict[str, Curve]:
    """Return the curves of a table with a row per step.

    Raises:
        UserError: a cell is not a number.
    """
    curves: dict[str, Curve] = {}
    with path.open(encoding="utf-8", newline="") as file:
        reader = DictReader(file)
        try:
            for row in reader:
                step = int(row.pop("step"))
                for name, value in row.items():
                    if value:
                        curve = curves.setdefault(name, Curve([], []))
                        curve.steps.append(step)
                        curve.values.append(float(value))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{path}, line {reader.line_num}: not a row of numbers ({error!r}): correct it") from error
    return curves
