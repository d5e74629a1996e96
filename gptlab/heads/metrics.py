"""Metrics of a language model; imported only when a head is asked for them, for torchmetrics takes seconds to load."""

import math

import torch
from torch import Tensor
from torchmetrics import Metric

from gptlab.batch import IGNORE_INDEX, Batch
from gptlab.heads.protocol import Loss


class MeanLoss(Metric):
    """sum of losses / scored items, in nats: exact over any batches, and over ranks."""

    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, loss: Loss, batch: Batch) -> None:
        """Adds one batch."""
        self.total += loss.total.detach()
        self.count += loss.count

    def compute(self) -> Tensor:
        """()"""
        return self.total / self.count


class Perplexity(MeanLoss):
    """exp(mean loss): among how many equally likely tokens the model hesitates."""

    def compute(self) -> Tensor:
        """()"""
        return super().compute().exp()


class Accuracy(MeanLoss):
    """The share of scored items that the best guess has right."""

    def update(self, loss: Loss, batch: Batch) -> None:
        """Adds one batch, whose hits were counted."""
        assert loss.hits is not None
        self.total += loss.hits
        self.count += loss.count


class BitsPerByte(MeanLoss):
    """Bits the model needs for a byte of text: comparable over tokenizers, as loss and perplexity are not.

    sum of losses / (ln 2 x bytes of the scored tokens). What a document border costs is counted, its bytes are none.
    """

    token_bytes: Tensor

    def __init__(self, token_bytes: Tensor) -> None:
        super().__init__()
        self.register_buffer("token_bytes", token_bytes, persistent=False)

    def update(self, loss: Loss, batch: Batch) -> None:
        """Adds one batch."""
        targets = batch["targets"]
        self.total += loss.total.detach()
        self.count += self.token_bytes[targets[targets != IGNORE_INDEX]].sum()

    def compute(self) -> Tensor:
        """()"""
        return super().compute() / math.log(2)


class MeanReward(MeanLoss):
    """The mean over pairs of a times the chosen answer's reward and b times the rejected one's."""

    def __init__(self, a: float, b: float) -> None:
        super().__init__()
        self.a, self.b = a, b

    def update(self, loss: Loss, batch: Batch) -> None:
        """Adds one batch."""
        assert loss.logits is not None
        chosen, rejected = loss.logits.double().sum(dim=0)  # (N, 2) -> ()
        self.total += self.a * chosen + self.b * rejected
        self.count += len(loss.logits)
