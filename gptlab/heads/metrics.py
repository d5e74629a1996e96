"""Metrics of heads that predict tokens.   N pairs

Imported only when a head is asked for its metrics, because torchmetrics takes seconds to load.
"""

import math

import torch
from torch import Tensor
from torchmetrics import Metric

from gptlab.batch import IGNORE_INDEX, Batch
from gptlab.heads.protocol import Loss


class MeanLoss(Metric):
    """Sum of losses / scored items, in nats.

    Exact for batches of any size and over ranks.
    """

    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, loss: Loss, batch: Batch) -> None:
        """Add one batch."""
        self.total += loss.total.detach()
        self.count += loss.count

    def compute(self) -> Tensor:
        """-> ()"""
        return self.total / self.count


class Perplexity(MeanLoss):
    """exp(mean loss): how many equally likely tokens would be as uncertain."""

    def compute(self) -> Tensor:
        """-> ()"""
        return super().compute().exp()


class Accuracy(MeanLoss):
    """The share of scored items whose best guess is right."""

    def update(self, loss: Loss, batch: Batch) -> None:
        """Add one batch whose loss has hits."""
        assert loss.hits is not None
        self.total += loss.hits
        self.count += loss.count


class BitsPerByte(MeanLoss):
    """Sum of losses / (ln 2 x bytes of the scored tokens).

    It is comparable between tokenizers, which loss and perplexity are not. The token at a document's end adds its loss
    and no bytes.
    """

    token_bytes: Tensor

    def __init__(self, token_bytes: Tensor) -> None:
        super().__init__()
        self.register_buffer("token_bytes", token_bytes, persistent=False)

    def update(self, loss: Loss, batch: Batch) -> None:
        """Add one batch."""
        targets = batch["targets"]
        self.total += loss.total.detach()
        self.count += self.token_bytes[targets[targets != IGNORE_INDEX]].sum()

    def compute(self) -> Tensor:
        """-> ()"""
        return super().compute() / math.log(2)


class MeanReward(MeanLoss):
    """Mean over pairs of a r(chosen) + b r(rejected)."""

    def __init__(self, a: float, b: float) -> None:
        super().__init__()
        self.a, self.b = a, b

    def update(self, loss: Loss, batch: Batch) -> None:
        """Add one batch."""
        assert loss.logits is not None
        chosen, rejected = loss.logits.double().sum(dim=0)  # (N, 2) -> ()
        self.total += self.a * chosen + self.b * rejected
        self.count += len(loss.logits)
