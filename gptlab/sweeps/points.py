"""The runs of a sweep, or of a table, as points of a scaling law."""

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gptlab.config.plain import select
from gptlab.config.run_paths import outputs_folder
from gptlab.errors import MissingFileError, UserError
from gptlab.insight.scaling.law import FLOPS_FACTOR, Points
from gptlab.storage.files import read_text
from gptlab.storage.run_folder import JOB_RECORD, read_job_record, read_summary

LOSS = "val/loss"
FINISHED = "finished"
COLUMNS = ("parameters", "tokens", "loss")
MAX_CSV_BYTES = 1 << 24


class Measured(NamedTuple):
    """One point: the runs of one size and number of tokens."""

    parameters: int
    tokens: int
    loss: float
    flops_per_second: float | None  # of training, 6 N times tokens per second; None if unknown
    epochs: float | None
    flops_ratio: float | None  # exact operations, with attention's, over 6 N D


class Sample(NamedTuple):
    """The points of a law, and what was left out."""

    points: list[Measured]
    n_jobs: int
    left_out: dict[str, int]  # why -> how many jobs
    folder: Path  # where the picture and the report go

    def arrays(self) -> Points:
        """Return the points as arrays."""
        columns = [np.array([getattr(point, name) for point in self.points], dtype=float) for name in COLUMNS]
        return Points(*columns)


def read_sweeps(names: Sequence[str], *, counted: str) -> Sample:
    """Return the points of one sweep, or of several that belong together.

    Args:
        names: as for `find_sweep`.
        counted: parameters that N counts, `all` or `non_embedding`.

    Raises:
        MissingFileError: there is no such sweep.
    """
    folders = [find_sweep(name) for name in names]
    jobs = [record.parent for folder in folders for record in sorted(folder.glob(f"*/{JOB_RECORD}"))]
    points, left_out = points_of_jobs(jobs, counted=counted)
    return Sample(points, len(jobs), left_out, folders[0])


def read_table(path: Path) -> Sample:
    """Return the points of a csv file.

    Raises:
        UserError: a column is missing, or a value is no number above 0.
        OSError: the file cannot be read.
    """
    table = csv.DictReader(io.StringIO(read_text(path, limit=MAX_CSV_BYTES)))
    if missing := [name for name in COLUMNS if name not in (table.fieldnames or ())]:
        raise UserError(f"{path} lacks {', '.join(missing)} in its first line: name its columns {', '.join(COLUMNS)}")
    points = []
    for row in table:
        try:
            n, tokens, loss = (float(row[name]) for name in COLUMNS)
        except (TypeError, ValueError):
            n = tokens = loss = math.nan
        if not all(math.isfinite(value) and value > 0 for value in (n, tokens, loss)):
            raise UserError(f"{path}, line {table.line_num}: wanted three numbers above 0: correct the line")
        points.append(Measured(round(n), round(tokens), loss, None, None, None))
    return Sample(points, len(points), {}, path.parent)


def points_of_jobs(jobs: Sequence[Path], *, counted: str) -> tuple[list[Measured], dict[str, int]]:
    """Return the points of a sweep's jobs, and why others give none.

    Only finished jobs count: the learning rate of any other has not decayed. Of jobs with the same size and tokens,
    seeds are averaged, and the best of those that differ in anything else counts.

    Args:
        jobs: their folders.
    """
    places: dict[tuple[int, int], dict[str, list[Measured]]] = {}  # N and D -> what else varies -> its seeds
    left_out: Counter[str] = Counter()
    for folder in jobs:
        record = read_job_record(folder)
        status = str(record["status"])
        point = _point(read_summary(folder), counted) if status == FINISHED else None
        if point is not None:
            others = {key: str(value) for key, value in record["varies"].items() if key != "seed"}
            place = places.setdefault((point.parameters, point.tokens), {})
            place.setdefault(json.dumps(others, sort_keys=True), []).append(point)
        else:
            left_out[f"without {LOSS} or with a summary of another version" if status == FINISHED else status] += 1
    points = []
    for _, variants in sorted(places.items()):
        means = [seeds[0]._replace(loss=float(np.mean([seed.loss for seed in seeds]))) for seeds in variants.values()]
        n_jobs = [len(seeds) for seeds in variants.values()]
        best = int(np.argmin([mean.loss for mean in means]))
        points.append(means[best])
        if sum(n_jobs) > n_jobs[best]:
            left_out["worse than others of the same N and D"] += sum(n_jobs) - n_jobs[best]
    return points, dict(left_out)


def _point(summary: Mapping[str, Any], counted: str) -> Measured | None:
    """Return a finished job's point; None if its summary lacks a number."""
    names = ("parameters", "embedding_parameters", "tokens", "tokens_per_second", "flops_per_token", "epochs")
    numbers: list[Any] = [summary.get(name) for name in names]
    loss = select(summary, f"val.{LOSS}")
    if not all(isinstance(number, int | float) and math.isfinite(number) for number in (*numbers, loss)):
        return None
    n_all, n_embedding, tokens, rate, exact, epochs = numbers
    n = n_all - (n_embedding if counted == "non_embedding" else 0)
    return Measured(n, tokens, loss, FLOPS_FACTOR * n * rate, epochs, exact / (FLOPS_FACTOR * n))


def find_sweep(text: str) -> Path:
    """Return the folder of a sweep: a path, the name of one, or `last`.

    Raises:
        MissingFileError: there is no such sweep.
    """
    root = outputs_folder() / "sweeps"
    path = Path(text).expanduser()
    if _is_sweep(path):
        return path
    below = root if text == "last" else next((place for place in (path, root / text) if place.is_dir()), None)
    found = list(_sweeps_below(below)) if below else []
    if not found:
        raise MissingFileError(
            f"run={text}: there is no sweep's folder, and no sweep of that name below {root}: give the folder that "
            "`python train.py sweep=scaling` printed"
        )
    return max(found, key=lambda sweep: (sweep.stat().st_mtime, sweep.name))


def _is_sweep(folder: Path) -> bool:
    return any(folder.glob(f"*/{JOB_RECORD}"))


def _sweeps_below(folder: Path) -> Iterator[Path]:
    """Yield the sweeps in a folder, and in the folders in it: <name>/<date_time>."""
    for place in (path for depth in ("*", "*/*") for path in folder.glob(depth)):
        if place.is_dir() and _is_sweep(place):
            yield place
