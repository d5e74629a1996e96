"""A run's curves are what its loggers wrote."""

from pathlib import Path

import pytest
from torch.utils.tensorboard import SummaryWriter

from gptlab import read_curves
from gptlab.errors import MissingFileError, UserError
from tests.conftest import TrainedRun


def test_curves_are_steps_and_values(tiny_run: TrainedRun) -> None:
    curves = read_curves(tiny_run.folder)
    steps, values = curves["val/loss"]
    assert steps == [10, 20, 30]
    assert values[-1] == pytest.approx(tiny_run.summary["val"]["val/loss"], rel=1e-6)
    assert {"train/loss", "weights/lr", "val/bits_per_byte"} <= curves.keys()


def test_a_step_that_was_validated_again_counts_once(tmp_path: Path) -> None:
    for number, values in enumerate(([3.0, 2.5], [2.5, 2.0]), 1):  # the second of a resumed run, from step 20 on
        with SummaryWriter(str(tmp_path), filename_suffix=str(number), purge_step=20 * number - 19) as writer:
            for step, value in zip((10, 20) if number == 1 else (20, 30), values, strict=True):
                writer.add_scalar("val/loss", value, step)
    assert read_curves(tmp_path)["val/loss"] == ([10, 20, 30], [3.0, 2.5, 2.0])


def test_without_tensorboard_the_table_is_read(tmp_path: Path) -> None:
    (tmp_path / "csv").mkdir()
    table = tmp_path / "csv" / "metrics.csv"
    table.write_text("step,train/loss,val/loss\n1,3.5,\n2,nan,3\n", encoding="utf-8")
    curves = read_curves(tmp_path)
    assert curves["val/loss"] == ([2], [3.0])
    assert curves["train/loss"].steps == [1, 2]
    table.write_text("step,train/loss\n1,3.5\n2,lots\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"metrics\.csv, line 3: not a row of numbers"):
        read_curves(tmp_path)


def test_a_run_without_curves_says_so(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="holds no curves: a run with logger=tensorboard or logger=csv"):
        read_curves(tmp_path)
    with pytest.raises(MissingFileError, match="is not a folder"):
        read_curves(tmp_path / "none")
    (tmp_path / "events.out.tfevents.1.junk").write_bytes(b"no events at all")
    with pytest.raises(MissingFileError, match="holds no curves"):
        read_curves(tmp_path)
