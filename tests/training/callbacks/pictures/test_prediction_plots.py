"""Plots of a classifier's predictions, and its worst mistakes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gptlab.heads.protocol import Loss
from gptlab.training.callbacks.pictures import prediction_plots
from gptlab.training.callbacks.pictures.prediction_plots import PredictionPlots
from tests.training.callbacks.test_throughput import context

PROBABILITIES = np.array([[0.9, 0.1], [0.3, 0.7], [0.8, 0.2], [0.6, 0.4]])  # (R, C)
LABELS = np.array([0, 1, 1, 1])  # the last two rows are mistakes


class OneLogger:
    """A Trainer, as far as the callback looks."""

    sanity_checking, is_global_zero, global_step = False, True, 5

    def __init__(self, folder: Path) -> None:
        self.loggers = [TensorBoardLogger(folder, name="", version="tensorboard")]


def test_the_axes_of_the_confusion_matrix_are_true_and_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Any] = []
    monkeypatch.setattr(prediction_plots, "_render", figures.append)
    prediction_plots.draw_confusion(np.log(PROBABILITIES), LABELS, ("ham", "spam"))
    (axes,) = figures[0].axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    assert [text.get_text() for text in axes.get_yticklabels()] == ["ham", "spam"]
    counts = {text.get_position()[::-1]: text.get_text() for text in axes.texts}  # (true, predicted) -> rows
    assert counts == {(0, 0): "1", (0, 1): "0", (1, 0): "2", (1, 1): "1"}


def test_pictures_and_the_worst_mistakes_are_shown(tmp_path: Path) -> None:
    trainer: Any = OneLogger(tmp_path)
    plots = PredictionPlots(context(tmp_path)._replace(labels=("ham", "spam")), n_mistakes=1)
    plots.on_validation_start(trainer, None)
    logits, labels = torch.tensor(PROBABILITIES).log(), torch.tensor(LABELS)
    loss = Loss(logits.sum(), torch.tensor(4), logits)
    batch = {"ids": torch.arange(12).reshape(4, 3), "lengths": torch.tensor([3, 3, 2, 3]), "labels": labels}
    plots.on_validation_batch_end(trainer, None, loss, batch, 0)
    plots.on_validation_end(trainer, None)
    trainer.loggers[0].finalize("success")
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(events.Tags()["images"]) == {"val_predictions/confusion_matrix", "val_predictions/reliability_diagram"}
    (event,) = events.Tensors("val_predictions/worst_mistakes/text_summary")
    text = event.tensor_proto.string_val[0].decode()
    assert text == "    true spam, predicted ham with 80.0%\n    6 7"  # the row with the least expected class, alone


def test_a_head_without_classes_shows_nothing(tmp_path: Path) -> None:
    trainer: Any = OneLogger(tmp_path)
    plots = PredictionPlots(context(tmp_path), n_mistakes=1)
    plots.on_validation_batch_end(trainer, None, Loss(torch.tensor(1.0), torch.tensor(1), None), {}, 0)
    plots.on_validation_end(trainer, None)
    assert not (tmp_path / "tensorboard").exists()
