"""Plots and examples of a classifier's predictions.

B batch, R validation rows, C classes.
"""

import heapq
from itertools import count
from typing import TYPE_CHECKING, Annotated, Any

import lightning as L
import numpy as np
import torch

from gptlab.batch import Batch
from gptlab.bounds import AtLeast
from gptlab.heads.counts import N_BINS, confusion_matrix, reliability
from gptlab.heads.protocol import Loss
from gptlab.slots import slot
from gptlab.training.context import RunContext
from gptlab.training.loggers import show_picture, show_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_TEXT_CHARACTERS = 400  # of a misclassified text
LINE_COLOUR, BAR_COLOUR = "#24557a", "#d9e2ea"
MAX_LABELLED_CLASSES = 20  # with more, the numbers in the confusion matrix would not fit


@slot("callbacks.*")
class PredictionPlots(L.Callback):
    """Plot a classifier's predictions in TensorBoard at each validation.

    The image page gets the confusion matrix and the reliability diagram, the text page the worst mistakes. Skipped for
    heads without classes. With several devices, only rank 0's rows are shown.

    Args:
        n_mistakes: number of mistakes to show.
    """

    def __init__(self, context: RunContext, *, n_mistakes: Annotated[int, AtLeast(1)]) -> None:
        self.class_names, self.decode, self.n_mistakes = context.labels, context.decode, n_mistakes
        self._reset()

    def on_validation_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Forget the last validation's rows."""
        self._reset()

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Collect the batch's predictions."""
        loss: Loss = outputs
        if self.class_names and loss.logits is not None and not trainer.sanity_checking:
            log_probs, labels = loss.logits.double().log_softmax(dim=-1).cpu(), batch["labels"].cpu()  # (B, C), (B,)
            self.log_probs.append(log_probs)
            self.labels.append(labels)
            self._keep_worst(log_probs, labels, batch)

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Draw the plots and write the mistakes."""
        if not self.labels:
            return
        log_probs, labels = torch.cat(self.log_probs).numpy(), torch.cat(self.labels).numpy()
        pictures = {
            "predictions/confusion_matrix": draw_confusion(log_probs, labels, self.class_names),
            "predictions/reliability_diagram": draw_reliability(log_probs, labels),
        }
        for tag, picture in pictures.items():
            show_picture(trainer, tag, picture)
        if self.mistakes:
            worst = sorted(self.mistakes, reverse=True)
            show_text(trainer, "predictions/worst_mistakes", "\n\n".join(text for _, _, text in worst))

    def _keep_worst(self, log_probs: torch.Tensor, labels: torch.Tensor, batch: Batch) -> None:
        """Keep the misclassified rows whose true class was least expected.

        log_probs (B, C), labels (B,)
        """
        predicted = log_probs.argmax(dim=-1)  # (B,)
        for row in (predicted != labels).nonzero().flatten().tolist():
            surprise = -float(log_probs[row, labels[row]])
            entry = (surprise, next(self.counter), "")
            if len(self.mistakes) == self.n_mistakes and entry < self.mistakes[0]:
                continue
            text = self.decode(batch["ids"][row, : int(batch["lengths"][row])].tolist())
            names = self.class_names[int(labels[row])], self.class_names[int(predicted[row])]
            excerpt = text if len(text) <= MAX_TEXT_CHARACTERS else text[:MAX_TEXT_CHARACTERS] + " ..."
            confidence = float(log_probs[row].max().exp())
            entry = (*entry[:2], f"true {names[0]}, predicted {names[1]} with {confidence:.1%}\n{excerpt}")
            (heapq.heappush if len(self.mistakes) < self.n_mistakes else heapq.heappushpop)(self.mistakes, entry)

    def _reset(self) -> None:
        self.log_probs: list[torch.Tensor] = []
        self.labels: list[torch.Tensor] = []
        self.mistakes: list[tuple[float, int, str]] = []  # a heap: surprise in nats, arrival order, text
        self.counter = count()


def draw_confusion(log_probs: np.ndarray, labels: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Draw the confusion matrix, true classes by predicted ones.

    log_probs (R, C), labels (R,) -> (height, width, 3) uint8. A cell's shade is its share of the true class.
    """
    n_classes, counts = len(names), confusion_matrix(log_probs, labels)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    inches = 2.4 + 0.7 * min(n_classes, MAX_LABELLED_CLASSES)
    figure = _new_figure(inches, inches)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted class", ylabel="true class", xticks=range(n_classes), yticks=range(n_classes))
    axes.set_xticklabels(names, rotation=45, ha="right")
    axes.set_yticklabels(names)
    for i, j in np.ndindex(counts.shape) if n_classes <= MAX_LABELLED_CLASSES else ():
        axes.text(j, i, f"{counts[i, j]:,}", ha="center", va="center", color="white" if shares[i, j] > 0.5 else "black")
    return _render(figure)


def draw_reliability(log_probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Draw the reliability diagram (Guo et al., arXiv 1706.04599).

    log_probs (R, C), labels (R,) -> (height, width, 3) uint8. The upper plot shows accuracy by confidence, the lower
    one the number of rows.
    """
    bins = reliability(log_probs, labels)
    left, filled = np.arange(N_BINS) / N_BINS, bins.counts > 0
    confidence, accuracy = bins.confidence[filled], bins.accuracy[filled]
    figure = _new_figure(4, 4.6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.bar(left[filled], accuracy, width=1 / N_BINS, align="edge", color=BAR_COLOUR, edgecolor="white")
    above.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
    above.plot(confidence, accuracy, color=LINE_COLOUR, marker="o", markersize=4)
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy", title=f"expected calibration error {bins.error:.3f}")
    below.bar(left, bins.counts, width=1 / N_BINS, align="edge", color=LINE_COLOUR, edgecolor="white")
    below.set(xlabel="confidence", ylabel="rows")
    return _render(figure)


def _new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure, sizes in inches.

    It has no window and does not touch pyplot's global state.
    """
    from matplotlib.figure import Figure  # takes half a second, which only classifiers need

    return Figure(figsize=(width, height), layout="constrained")


def _render(figure: "Figure") -> np.ndarray:
    """Return the figure's pixels, (height, width, 3) uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
