"""Histograms of the trained weights and their gradients."""

import re
from typing import Annotated, Any

import lightning as L
import torch
from torch import Tensor

from gptlab.bounds import AtLeast
from gptlab.data.lightning_internals import batches_processed
from gptlab.slots import slot
from gptlab.training.lightning_internals import batches_per_validation
from gptlab.training.loggers import show_histogram

N_BINS = 64
BLOCK = re.compile(r"model\.blocks\.(\d+)\.(.+)")


@slot("callbacks.*")
class Histograms(L.Callback):
    """Show how the trained weights and their gradients are distributed, before validations.

    TensorBoard's pages Histograms and Distributions have a group for each block. The gradients are those of the last
    step, as the optimizer got them: clipped, and the mean over the step.

    Args:
        every_n_validations: from one to the next, and at the last step; None shows none.
    """

    def __init__(self, *, every_n_validations: Annotated[int, AtLeast(1)] | None) -> None:
        self.every = every_n_validations

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Show the histograms, if a validation follows; it would release the gradients."""
        if self.every is None or not trainer.is_global_zero:
            return
        due = batches_processed(trainer) % (self.every * batches_per_validation(trainer)) == 0
        if due or trainer.global_step >= trainer.max_steps:
            self._show_all(trainer, pl_module)

    def _show_all(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trained = {name: p for name, p in pl_module.named_parameters() if p.requires_grad}
        n_digits = max((len(match[1]) for name in trained if (match := BLOCK.fullmatch(name))), default=1)
        for name, parameter in trained.items():
            tag = histogram_tag(name, n_digits=n_digits)
            _show(trainer, tag, parameter.detach())
            if parameter.grad is not None:
                _show(trainer, f"{tag}.gradient", parameter.grad)


def histogram_tag(name: str, *, n_digits: int) -> str:
    """Return a parameter's name in TensorBoard, such as `weights_block_03/attention.qkv`.

    Args:
        name: in the GPTModule.
        n_digits: of the number of a block, so that the groups are in order.
    """
    name = name.removesuffix(".weight")
    if match := BLOCK.fullmatch(name):
        return f"weights_block_{int(match[1]):0{n_digits}}/{match[2]}"
    return "weights_outside_blocks/" + name.removeprefix("model.")


def _show(trainer: L.Trainer, tag: str, x: Tensor) -> None:
    """Count a tensor's finite numbers in bins of equal width and show them; a tensor without any is left out."""
    numbers = x.float().flatten()
    numbers = numbers[numbers.isfinite()]
    if not len(numbers):
        return
    low, high = float(numbers.min()), float(numbers.max())
    width = (high - low) / N_BINS or 1e-12  # all numbers may be the same
    counts = torch.histc(numbers, N_BINS, low, high) if high > low else torch.tensor([float(len(numbers))])
    limits = [low + width * (i + 1) for i in range(len(counts))]
    show_histogram(trainer, tag, numbers, limits=limits, counts=counts.tolist())
