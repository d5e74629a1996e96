"""What a classifier says of the held-out rows, in pictures and examples.   R rows, C classes."""

import heapq
from itertools import count
from typing import TYPE_CHECKING, Any

import lightning as L
import numpy as np
import torch

from gptlab.batch import Batch
from gptlab.heads.counts import N_BINS, confusion_matrix, reliability
from gptlab.heads.protocol import Loss
from gptlab.slots import slot
from gptlab.training.context import RunContext
from gptlab.training.loggers import show_text, tensorboard_writers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 400  # characters of a text that are shown
INK, PAPER = "#24557a", "#d9e2ea"


@slot("callbacks.*")
class PredictionPlots(L.Callback):
    """On TensorBoard's image page the confusion matrix and the reliability plot, on its text page the worst mistakes.

    A head without classes is left in peace. Of several devices the first one's rows are shown.

    Args:
        n_mistakes: how many.
    """

    def __init__(self, context: RunContext, *, n_mistakes: int) -> None:
        self.labels, self.decode, self.n_mistakes = context.labels, context.decode, n_mistakes
        self._forget()

    def on_validation_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Begins anew."""
        self._forget()

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Takes down the batch's verdicts."""
        loss: Loss = outputs
        if self.labels and loss.logits is not None and "labels" in batch and not trainer.sanity_checking:
            log_probs, labels = loss.logits.double().log_softmax(dim=-1).cpu(), batch["labels"].cpu()  # (B, C), (B,)
            self.log_probs.append(log_probs)
            self.classes.append(labels)
            self._note_mistakes(log_probs, labels, batch)

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Draws and shows."""
        if not self.classes:
            return
        log_probs, labels = torch.cat(self.log_probs).numpy(), torch.cat(self.classes).numpy()
        pictures = {
            "val/confusion": confusion_picture(log_probs, labels, self.labels),
            "val/reliability": reliability_picture(log_probs, labels),
        }
        for writer in tensorboard_writers(trainer):
            for tag, picture in pictures.items():
                writer.add_image(tag, picture, trainer.global_step, dataformats="HWC")
        if self.mistakes:
            worst = sorted(self.mistakes, reverse=True)
            show_text(trainer, "val/worst_mistakes", "\n\n".join(text for _, _, text in worst))

    def _note_mistakes(self, log_probs: torch.Tensor, labels: torch.Tensor, batch: Batch) -> None:
        """Keeps the rows whose own class was the least expected."""
        guesses = log_probs.argmax(dim=-1)
        for row in (guesses != labels).nonzero().flatten().tolist():
            surprise = -float(log_probs[row, labels[row]])
            entry = (surprise, next(self.number), "")
            if len(self.mistakes) == self.n_mistakes and entry < self.mistakes[0]:
                continue
            text = self.decode(batch["ids"][row, : int(batch["lengths"][row])].tolist())
            said, sure = self.labels[int(guesses[row])], float(log_probs[row].max().exp())
            shown = text if len(text) <= WIDTH else text[:WIDTH] + " ..."
            entry = (*entry[:2], f"{self.labels[int(labels[row])]}, called {said} with {sure:.1%}\n{shown}")
            (heapq.heappush if len(self.mistakes) < self.n_mistakes else heapq.heappushpop)(self.mistakes, entry)

    def _forget(self) -> None:
        self.log_probs: list[torch.Tensor] = []
        self.classes: list[torch.Tensor] = []
        self.mistakes: list[tuple[float, int, str]] = []  # a heap: surprise, order of coming, text
        self.number = count()


def confusion_picture(log_probs: np.ndarray, labels: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """(height, width, 3) uint8: rows of a class by what they were called; shades are shares of the row.

    log_probs (R, C), labels (R,)
    """
    n_classes, counts = len(names), confusion_matrix(log_probs, labels)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 2.4 + 0.7 * min(n_classes, 20)
    figure = _sheet(side, side)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="called", ylabel="is", xticks=range(n_classes), yticks=range(n_classes))
    axes.set_xticklabels(names, rotation=45, ha="right")
    axes.set_yticklabels(names)
    for i, j in np.ndindex(counts.shape) if n_classes <= 20 else ():
        axes.text(j, i, f"{counts[i, j]:,}", ha="center", va="center", color="white" if shares[i, j] > 0.5 else "black")
    return _drawn(figure)


def reliability_picture(log_probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(height, width, 3) uint8: accuracy over confidence, and how many rows are how sure (Guo et al., 1706.04599).

    log_probs (R, C), labels (R,)
    """
    found = reliability(log_probs, labels)
    left, there = np.arange(N_BINS) / N_BINS, found.counts > 0
    confidence, accuracy = found.confidence[there], found.accuracy[there]
    figure = _sheet(4, 4.6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.bar(left[there], accuracy, width=1 / N_BINS, align="edge", color=PAPER, edgecolor="white")
    above.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
    above.plot(confidence, accuracy, color=INK, marker="o", markersize=4)
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy", title=f"calibration error {found.error:.3f}")
    below.bar(left, found.counts, width=1 / N_BINS, align="edge", color=INK, edgecolor="white")
    below.set(xlabel="confidence", ylabel="rows")
    return _drawn(figure)


def _sheet(width: float, height: float) -> "Figure":
    """In inches; without a window, and without pyplot's global state."""
    from matplotlib.figure import Figure  # half a second, which only a classifier pays

    return Figure(figsize=(width, height), layout="constrained")


def _drawn(figure: "Figure") -> np.ndarray:
    """Its pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
