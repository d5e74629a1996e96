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
MAX_NUMBERED_CLASSES = 20  # with more, the numbers in the confusion matrix would not fit
MAX_EASY_CLASSES = 12  # with more, the picture grows and its labels are read at its actual size
MAX_NAME_CHARACTERS = 14  # of a class in a picture
# Of a picture. TensorBoard's page Images shows it 350 pixels wide, and leaves out pixels of a larger one.
INCHES, DOTS_PER_INCH = 3.4, 103


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
            "val_predictions/confusion_matrix": draw_confusion(log_probs, labels, self.class_names),
            "val_predictions/reliability_diagram": draw_reliability(log_probs, labels),
        }
        for tag, picture in pictures.items():
            show_picture(trainer, tag, picture)
        if self.mistakes:
            worst = sorted(self.mistakes, reverse=True)
            show_text(trainer, "val_predictions/worst_mistakes", "\n\n".join(text for _, _, text in worst))

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

    log_probs (R, C), labels (R,) -> (height, width, 3) uint8. A cell's shade is its share of the true class. The title
    says how many rows are right, and of many classes which two are most often confused.
    """
    n_classes, counts = len(names), confusion_matrix(log_probs, labels)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    short = [_shorten(name) for name in names]
    crowded = n_classes > MAX_EASY_CLASSES
    inches = INCHES + 0.13 * max(0, n_classes - MAX_EASY_CLASSES)
    figure = _new_figure(inches, inches)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xticks=range(n_classes), yticks=range(n_classes))
    flat = n_classes * max(map(len, short)) <= 20  # the names fit side by side
    slope = {} if flat else {"rotation": 90} if crowded else {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    size, large = (6, 10 * inches / INCHES) if crowded else (9, 10)  # points
    axes.set_xticklabels(short, fontsize=size, **slope)
    axes.set_yticklabels(short, fontsize=size)
    axes.set_xlabel("predicted class", fontsize=large)
    axes.set_ylabel("true class", fontsize=large)
    axes.set_title(_confusion_title(counts, short, crowded=crowded), fontsize=large)
    number_size = 16 if n_classes < 5 else 8 if counts.max() < 1000 else 6
    for i, j in np.ndindex(counts.shape) if n_classes <= MAX_NUMBERED_CLASSES else ():
        colour = "white" if shares[i, j] > 0.5 else "black" if counts[i, j] else "#9aa5ae"
        axes.text(j, i, f"{counts[i, j]:,}", ha="center", va="center", color=colour, fontsize=number_size)
    return _render(figure)


def _confusion_title(counts: np.ndarray, names: list[str], *, crowded: bool) -> str:
    """Return the share of rows that are right, and the two classes of the largest other count.

    (C, C), the true class first
    """
    n_rows, n_right = int(counts.sum()), int(np.trace(counts))
    title = f"{n_right:,} of {n_rows:,} right, {n_right / max(1, n_rows):.1%}"
    wrong = counts - np.diag(np.diag(counts))
    if not crowded or not wrong.any():
        return title
    i, j = np.unravel_index(wrong.argmax(), wrong.shape)
    return f"{title}\nmost often: {names[i]}\ntaken for {names[j]}, {wrong[i, j]:,}"


def _shorten(name: str) -> str:
    """Return a class's name with its middle left out if it is long; the ends tell classes apart."""
    if len(name) <= MAX_NAME_CHARACTERS:
        return name
    return f"{name[: MAX_NAME_CHARACTERS // 2]}\u2026{name[-(MAX_NAME_CHARACTERS // 2 - 1) :]}"


def draw_reliability(log_probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Draw the reliability diagram (Guo et al., arXiv 1706.04599).

    log_probs (R, C), labels (R,) -> (height, width, 3) uint8. The upper plot shows accuracy by confidence, the lower
    one the number of rows.
    """
    bins = reliability(log_probs, labels)
    left, filled = np.arange(N_BINS) / N_BINS, bins.counts > 0
    confidence, accuracy = bins.confidence[filled], bins.accuracy[filled]
    figure = _new_figure(INCHES, INCHES)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.bar(left[filled], accuracy, width=1 / N_BINS, align="edge", color=BAR_COLOUR, edgecolor="white")
    above.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
    above.plot(confidence, accuracy, color=LINE_COLOUR, marker="o", markersize=4)
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy", title=f"calibration error {bins.error:.3f}")
    below.bar(left, bins.counts, width=1 / N_BINS, align="edge", color=LINE_COLOUR, edgecolor="white")
    below.set(xlabel="confidence", ylabel="rows")
    return _render(figure)


def _new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure, sizes in inches.

    It has no window and does not touch pyplot's global state.
    """
    from matplotlib.figure import Figure  # takes half a second, which only classifiers need

    return Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")


def _render(figure: "Figure") -> np.ndarray:
    """Return the figure's pixels, (height, width, 3) uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
