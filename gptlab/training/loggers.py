"""Loggers of a run: TensorBoard and a CSV file, and what callbacks write to every logger."""

import textwrap
from collections.abc import Mapping
from csv import DictReader, DictWriter
from io import StringIO
from typing import Any, Protocol, runtime_checkable

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from gptlab.slots import slot
from gptlab.storage.atomic import atomic_write
from gptlab.storage.places import subfolder
from gptlab.training.context import RunContext
from gptlab.training.lightning_internals import write_scalars


class SingleEventLogger(TensorBoardLogger):
    """Lightning's TensorBoard logger, with one event per step."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write all metrics of a step as one event."""
        write_scalars(self.experiment, metrics, step)

    @rank_zero_only
    def save(self) -> None:
        """Write what is still in memory; Lightning's own adds an empty hparams.yaml."""
        self.experiment.flush()


@slot("logger.*")
def tensorboard(context: RunContext, *, folder: str | None) -> TensorBoardLogger:
    """Return a logger that writes TensorBoard's files.

    When a resumed run repeats steps, TensorBoard shows only the repetition.

    Args:
        folder: name of the files' folder in the run's; None is the run's folder itself, whose name TensorBoard shows.
    """
    if folder is not None:
        subfolder(context.folder, folder)
    return SingleEventLogger(
        context.folder,
        name="",
        version=folder or "",
        default_hp_metric=False,  # would add a metric `hp_metric` that nothing measures
        # also for a new run: TensorBoard's pages take the first purge step as the start, and act on later ones
        purge_step=context.start_step + 1,
    )


def tensorboard_writers(trainer: Trainer) -> list[Any]:
    """Return the run's SummaryWriters, for texts, images and layouts."""
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def show_text(trainer: Trainer, tag: str, text: str) -> None:
    """Write a text to TensorBoard's text page, and to each other logger that takes texts.

    TensorBoard's page renders Markdown; the indentation keeps the lines as they are.
    """
    for writer in tensorboard_writers(trainer):
        writer.add_text(tag, textwrap.indent(text, "    "), trainer.global_step)
    for logger in _media_loggers(trainer):
        logger.write_text(tag, text, trainer.global_step)


def show_picture(trainer: Trainer, tag: str, picture: np.ndarray) -> None:
    """Write a picture, (height, width, 3) uint8, to each logger that takes pictures."""
    for writer in tensorboard_writers(trainer):
        writer.add_image(tag, picture, trainer.global_step, dataformats="HWC")
    for logger in _media_loggers(trainer):
        logger.write_picture(tag, picture, trainer.global_step)


def show_hyperparams(trainer: Trainer, values: dict[str, Any], metrics: dict[str, float], step: int | None) -> None:
    """Write the values by which runs are compared, and their metrics at a step."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(values, metrics, step)
    for media in _media_loggers(trainer):
        media.write_hyperparams(values, metrics)


@runtime_checkable
class MediaLogger(Protocol):
    """A logger that takes more than metrics; `remote_loggers.py` has two."""

    def write_text(self, tag: str, text: str, step: int) -> None:
        """Write a text."""

    def write_picture(self, tag: str, picture: np.ndarray, step: int) -> None:
        """Write a picture, (height, width, 3) uint8."""

    def write_hyperparams(self, values: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Write the values by which runs are compared, and what they led to."""


def _media_loggers(trainer: Trainer) -> list[MediaLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, MediaLogger)]


@slot("logger.*")
class CSVFile(Logger):
    """Write `metrics.csv`: a row per step, a column per metric.

    The file on disk is complete after each log. A resumed run continues it and replaces the steps that it repeats;
    Lightning's CSVLogger would start a new file.

    Args:
        folder: name of the file's folder in the run's.
    """

    name = "csv"
    version = ""

    def __init__(self, context: RunContext, *, folder: str) -> None:
        super().__init__()
        self.path = subfolder(context.folder, folder) / "metrics.csv"
        self.last_step = context.start_step
        self.columns: list[str] = []

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int) -> None:  # type: ignore[override]
        """Append a row.

        If the step has a row already, or a column is new, the file is rewritten.
        """
        row: dict[str, Any] = {"step": step, **metrics}
        if step > self.last_step and set(row) <= set(self.columns):
            with self.path.open("a", encoding="utf-8", newline="") as file:
                DictWriter(file, self.columns, lineterminator="\n").writerow(row)
        else:
            self._rewrite(row)
        self.last_step = step

    def _rewrite(self, row: dict[str, Any]) -> None:
        rows: list[dict[str, Any]] = []
        if self.path.exists():
            with self.path.open(encoding="utf-8", newline="") as file:
                rows = [old for old in DictReader(file) if int(old["step"]) <= self.last_step]
        if rows and int(rows[-1]["step"]) == row["step"]:
            row = {**rows.pop(), **row}
        rows.append(row)
        self.columns = list(dict.fromkeys([*rows[0], *row]))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = StringIO()
        table = DictWriter(text, self.columns, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        atomic_write(self.path, text.getvalue())

    def log_hyperparams(self, *_: Any) -> None:
        """Do nothing: they are in the run's configuration."""
