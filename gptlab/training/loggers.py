"""Loggers of a run: TensorBoard and a CSV file, and what callbacks write to every logger."""

import textwrap
from collections.abc import Mapping
from csv import DictReader, DictWriter
from io import StringIO
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from gptlab.slots import slot
from gptlab.storage.atomic import atomic_write
from gptlab.storage.curves import BY_TOKENS
from gptlab.storage.places import subfolder
from gptlab.training.context import RunContext
from gptlab.training.lightning_internals import write_hparams, write_hparams_end, write_scalars


class SingleEventLogger(TensorBoardLogger):
    """Lightning's TensorBoard logger, with one event per step, and a second run whose steps are tokens.

    Args:
        by_tokens: whether there is the second run, in a folder of its own below the first one's.
    """

    def __init__(self, folder: Path, *, by_tokens: bool, **options: Any) -> None:
        super().__init__(folder, **options)
        self.by_tokens = by_tokens
        self.tokens_writer: Any = None  # SummaryWriter

    @rank_zero_only
    def begin_by_tokens(self, tokens: int) -> None:
        """Begin the second run; what it shows beyond these tokens will be repeated."""
        from torch.utils.tensorboard import SummaryWriter

        if self.by_tokens:
            self.tokens_writer = SummaryWriter(str(Path(self.log_dir) / BY_TOKENS), purge_step=tokens + 1)

    @rank_zero_only
    def log_by_tokens(self, metrics: Mapping[str, float], tokens: int) -> None:
        """Write the losses and other metrics of training and validation under the number of tokens seen.

        Their names differ from those by step, or a chart would show both on one axis.
        """
        if self.tokens_writer is not None:
            stages = {name: name.partition("/") for name in metrics if name.startswith(("train/", "val/"))}
            renamed = {f"{stage}_{BY_TOKENS}/{rest}": metrics[name] for name, (stage, _, rest) in stages.items()}
            write_scalars(self.tokens_writer, renamed, tokens)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write all metrics of a step as one event."""
        write_scalars(self.experiment, metrics, step)

    @rank_zero_only
    def save(self) -> None:
        """Write what is still in memory; Lightning's own adds an empty hparams.yaml."""
        self.experiment.flush()
        if self.tokens_writer is not None:
            self.tokens_writer.flush()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the files."""
        super().finalize(status)
        if self.tokens_writer is not None:
            self.tokens_writer.close()


@slot("logger.*")
def tensorboard(context: RunContext, *, folder: str | None, by_tokens: bool) -> TensorBoardLogger:
    """Return a logger that writes TensorBoard's files.

    When a resumed run repeats steps, TensorBoard shows only the repetition.

    Args:
        folder: name of the files' folder in the run's; None is the run's folder itself, whose name TensorBoard shows.
        by_tokens: whether training and validation are also shown by the number of tokens seen, as a run of their own.
    """
    if folder is not None:
        subfolder(context.folder, folder)
    return SingleEventLogger(
        context.folder,
        by_tokens=by_tokens,
        name="",
        version=folder or "",
        default_hp_metric=False,  # would add a metric `hp_metric` that nothing measures
        # also for a new run: TensorBoard's pages take the first purge step as the start, and act on later ones
        purge_step=context.start_step + 1,
    )


def tensorboard_writers(trainer: Trainer) -> list[Any]:
    """Return the run's SummaryWriters, for texts, images and layouts; only rank 0 has any."""
    if not trainer.is_global_zero:
        return []
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def begin_by_tokens(trainer: Trainer, tokens: int) -> None:
    """Begin the curves by tokens, of each logger that has them.

    Args:
        tokens: seen before; what a killed run showed after them is dropped.
    """
    for logger in trainer.loggers:
        if isinstance(logger, SingleEventLogger):
            logger.begin_by_tokens(tokens)


def show_by_tokens(trainer: Trainer, metrics: Mapping[str, float], tokens: int) -> None:
    """Write metrics under the number of tokens seen, to each logger that has such curves."""
    for logger in trainer.loggers:
        if isinstance(logger, SingleEventLogger):
            logger.log_by_tokens(metrics, tokens)


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


def show_histogram(trainer: Trainer, tag: str, numbers: Tensor, *, limits: list[float], counts: list[float]) -> None:
    """Write a histogram to TensorBoard.

    Args:
        numbers: (N,), all of them, for their moments.
        limits: upper limits of the bins.
        counts: numbers in each bin.
    """
    squares = float(numbers.double().square().sum())
    moments = {"min": float(numbers.min()), "max": float(numbers.max()), "sum": float(numbers.double().sum())}
    for writer in tensorboard_writers(trainer):
        writer.add_histogram_raw(
            tag,
            **moments,
            num=len(numbers),
            sum_squares=squares,
            bucket_limits=limits,
            bucket_counts=counts,
            global_step=trainer.global_step,
        )


def begin_hparams(trainer: Trainer, values: Mapping[str, bool | float | str], metrics: list[str]) -> None:
    """Begin the run's row on TensorBoard's page of hyperparameters.

    Args:
        metrics: names of the scalars that are the row's further columns.
    """
    for writer in tensorboard_writers(trainer):
        write_hparams(writer, values, metrics)


def show_hparams_metrics(trainer: Trainer, metrics: Mapping[str, float], step: int) -> None:
    """Write the metrics of the run's row on TensorBoard's page of hyperparameters."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_metrics(metrics, step)


def end_hparams(trainer: Trainer) -> None:
    """Mark the run's row on TensorBoard's page of hyperparameters as that of a complete run."""
    for writer in tensorboard_writers(trainer):
        write_hparams_end(writer)


def show_hyperparams(trainer: Trainer, values: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
    """Write the values by which runs are compared, and their metrics, to each logger but TensorBoard."""
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
