"""The classifier head: of which class is this text?   B batch, T tokens, D embedding, C classes."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.batch import Batch
from gptlab.heads.projection import Projection
from gptlab.heads.protocol import HeadContext, Loss, Monitor
from gptlab.model.gpt import GPT
from gptlab.model.init import initialise
from gptlab.slots import slot

Pooling = Literal["last", "first", "mean", "book"]


@slot("head")
class ClassifierHead(nn.Module):
    """Pools the hidden vectors of a text and projects the one that is left onto its classes.

    Args:
        pooling: which vector speaks for the text, see `pooled`.
        class_weights: `balanced` weighs a row of class c with N / (C N_c), so that all classes weigh the same in the
            training rows; `none` weighs every row with 1.
        bias: whether the projection has one; the transformers library's has none.
        drop_rate: dropout on the pooled vector.
        lm_loss_weight: while it learns, of the loss as a language model of the same texts beside that of their classes: it
            keeps what pretraining taught (GPT-1, section 3.2, has 0.5). Its output matrix is the token embedding.
    """

    needs = ("ids", "lengths", "labels")
    monitor = Monitor("val/loss", "min")

    def __init__(
        self,
        model: GPT,
        given: HeadContext,
        *,
        pooling: Pooling,
        class_weights: Literal["none", "balanced"],
        bias: bool,
        drop_rate: float,
        lm_loss_weight: float,
    ) -> None:
        super().__init__()
        self.lm_loss_weight = lm_loss_weight
        self.words = Projection(model, given.vocab_size, tied=True, loss_chunk_rows="auto") if lm_loss_weight else None
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
        losses = F.cross_entropy(logits, labels, reduction="none")  # (B,)
        if self.words is not None and torch.is_grad_enabled():
            losses = losses + self.lm_loss_weight * text_losses(hidden, batch, self.words)
        weights = torch.ones_like(losses) if self.class_weights is None else self.class_weights[labels]
        return Loss((weights * losses).sum(), weights.sum(), logits.detach())

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


def text_losses(hidden: Tensor, batch: Batch, words: Projection) -> Tensor:
    """What a token of each text costs a language model on average, in nats; 0 of a text of one token.

    (B, T, D) -> (B,)
    """
    n_targets = batch["lengths"] - 1  # (B,)
    there = torch.arange(hidden.size(1) - 1, device=hidden.device) < n_targets[:, None]  # (B, T - 1)
    logits = words(hidden[:, :-1][there]).float()  # (N, V), of the N tokens that follow another
    losses = F.cross_entropy(logits, batch["ids"][:, 1:][there], reduction="none")  # (N,)
    sums = losses.new_zeros(len(hidden)).index_add(0, there.nonzero()[:, 0], losses)
    return sums / n_targets.clamp_min(1)
