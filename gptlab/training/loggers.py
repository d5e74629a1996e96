"""Where the curves of a run are kept: TensorBoard's files, and a table that any program reads."""

import textwrap
from collections.abc import Mapping
from csv import DictReader, DictWriter
from io import StringIO
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]

from gptlab.slots import slot
from gptlab.storage.atomic import atomic_write
from gptlab.storage.places import subfolder
from gptlab.training.context import RunContext


class OneEvent(TensorBoardLogger):
    """Lightning's, which would write an event, with its checksums, for each of a step's numbers."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """All of them in one event."""
        values = [Summary.Value(tag=name, simple_value=float(value)) for name, value in metrics.items()]
        self.experiment._get_file_writer().add_summary(Summary(value=values), step)


@slot("logger.*")
def tensorboard(context: RunContext, *, folder: str) -> TensorBoardLogger:
    """TensorBoard's files, in this folder of the run's.

    Of the steps that a resumed run takes again, only the second time is shown.
    """
    subfolder(context.folder, folder)
    return OneEvent(
        context.folder,
        name="",
        version=folder,
        default_hp_metric=False,  # it would draw a metric that nobody measured
        # a fresh run's too: TensorBoard's pages take the first such mark they see for a beginning
        purge_step=context.start_step + 1,
    )


def tensorboard_writers(trainer: Trainer) -> list[Any]:
    """The SummaryWriters of a run, which take texts and layouts beside numbers."""
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def show_text(trainer: Trainer, tag: str, text: str) -> None:
    """Puts a text on TensorBoard's page, line by line as it is: the page reads Markdown, and does not wrap."""
    for writer in tensorboard_writers(trainer):
        writer.add_text(tag, textwrap.indent(text, "    "), trainer.global_step)


@slot("logger.*")
class CSVFile(Logger):
    """`metrics.csv`: a row a step, a column a metric, whole on the disk after each log.

    A resumed run goes on in it, without the steps that it takes again; Lightning's CSVLogger would begin a new one.

    Args:
        folder: of the run's, where it lies.
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
        """Adds a row; writes the file anew where the step has a row already, or where columns are new."""
        row: dict[str, Any] = {"step": step, **metrics}
        if step > self.last_step and set(row) <= set(self.columns):
            with self.path.open("a", encoding="utf-8", newline="") as file:
                DictWriter(file, self.columns, lineterminator="\n").writerow(row)
        else:
            self._write_anew(row)
        self.last_step = step

    def _write_anew(self, row: dict[str, Any]) -> None:
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
        """They are in the run's config."""
