"""The classifier head: of which class is this text?   B batch, T tokens, D embedding, C classes."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.batch import Batch
from gptlab.heads.protocol import Given, Loss, Monitor
from gptlab.model.gpt import GPT
from gptlab.model.init import initialise

Pooling = Literal["last", "first", "mean", "book"]


class ClassifierHead(nn.Module):
    """Pools the hidden vectors of a text and projects the one that is left onto its classes.

    Args:
        pooling: which vector speaks for the text, see `pooled`.
        class_weights: `balanced` weighs a row of class c with N / (C N_c), so that all classes weigh the same in the
            training rows; `none` weighs every row with 1.
        bias: whether the projection has one; the transformers library's has none.
        drop_rate: dropout on the pooled vector.
    """

    needs = ("ids", "lengths", "labels")
    monitor = Monitor("val/loss", "min")

    def __init__(
        self,
        model: GPT,
        given: Given,
        *,
        pooling: Pooling,
        class_weights: Literal["none", "balanced"],
        bias: bool,
        drop_rate: float,
    ) -> None:
        super().__init__()
        counts = torch.tensor([float(n) for n in given.labels.values()])  # (C,)
        self.n_classes, self.pooling = len(counts), pooling
        self.drop = nn.Dropout(drop_rate)
        self.out = nn.Linear(model.emb_dim, self.n_classes, bias=bias)
        if model.init != "torch":
            initialise(self, init="gpt2", n_layers=0)
        weights = counts.sum() / (self.n_classes * counts) if class_weights == "balanced" else None
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", weights)  # in a checkpoint too

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """(B, T, D) -> (B, C)"""
        return self.out(self.drop(pooled(hidden, batch["lengths"], self.pooling)))

    def loss(self, hidden: Tensor, batch: Batch) -> Loss:
        """(B, T, D) -> cross entropy in nats, a sum over rows, each by its class's weight; `count` sums these weights.

        So the mean is PyTorch's weighted one, and without weights that over rows.
        """
        logits, labels = self(hidden, batch).float(), batch["labels"]
        total = F.cross_entropy(logits, labels, weight=self.class_weights, reduction="sum")
        count = torch.ones_like(labels) if self.class_weights is None else self.class_weights[labels]
        return Loss(total, count.sum(), logits.detach())

    def metrics(self) -> dict[str, Any]:
        """loss in nats, accuracy, precision and its like, see `class_metrics.py`."""
        from gptlab.heads.class_metrics import class_metrics
        from gptlab.heads.metrics import MeanLoss

        return {"loss": MeanLoss(), **class_metrics(self.n_classes)}


def pooled(hidden: Tensor, lengths: Tensor, pooling: Pooling) -> Tensor:
    """One vector for each text.   (B, T, D), (B,) -> (B, D)

    `last`: the last real token's, which has seen all others. `first`: the first one's, which has seen none. `mean`: the
    mean over the real ones. `book`: position -1, padding or not, so that the verdict moves with the number of pads.
    """
    if pooling == "first":
        return hidden[:, 0]
    if pooling == "book":
        return hidden[:, -1]
    if pooling == "last":
        return hidden[torch.arange(len(hidden), device=hidden.device), lengths - 1]
    real = torch.arange(hidden.size(1), device=hidden.device) < lengths[:, None]  # (B, T)
    return (hidden * real[..., None]).sum(1) / lengths[:, None]
