"""The classifier head (the book, chapter 6).

B batch, T tokens, D embedding, C classes, V vocabulary.
"""

from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.batch import Batch
from gptlab.bounds import AtLeast, LessThan
from gptlab.heads.projection import Projection
from gptlab.heads.protocol import HeadContext, Loss, Monitor
from gptlab.model.gpt import GPT
from gptlab.model.init import initialise
from gptlab.slots import slot

Pooling = Literal["last", "first", "mean", "book"]


@slot("head")
class ClassifierHead(nn.Module):
    """Pools a text's hidden vectors and projects the result onto classes.

    Args:
        pooling: which vector represents the text, see `pool`.
        class_weights: `balanced` weighs a row of class c by N / (C N_c), so that all classes weigh the same over the
            N training rows; `none` weighs every row by 1.
        bias: whether the projection has a bias; the transformers library's has none.
        drop_rate: dropout on the pooled vector.
        lm_loss_weight: in training, the weight of a language model's loss on the same texts, which preserves what
            pretraining taught (0.5 in GPT-1, section 3.2). Its output matrix is the token embedding.
    """

    needs = ("ids", "lengths", "labels")
    monitor = Monitor("val/loss", "min")

    def __init__(
        self,
        model: GPT,
        context: HeadContext,
        *,
        pooling: Pooling,
        class_weights: Literal["none", "balanced"],
        bias: bool,
        drop_rate: Annotated[float, AtLeast(0), LessThan(1)],
        lm_loss_weight: Annotated[float, AtLeast(0)],
    ) -> None:
        super().__init__()
        self.lm_loss_weight = lm_loss_weight
        self.lm_out = (
            Projection(model, context.vocab_size, tied=True, loss_chunk_rows="auto") if lm_loss_weight else None
        )
        counts = torch.tensor([float(n) for n in context.labels.values()])  # (C,)
        self.class_names, self.n_classes, self.pooling = tuple(context.labels), len(counts), pooling
        self.drop = nn.Dropout(drop_rate)
        self.out = nn.Linear(model.emb_dim, self.n_classes, bias=bias)
        if model.init != "torch":
            initialise(self, init="gpt2", n_layers=0)
        weights = counts.sum() / (self.n_classes * counts) if class_weights == "balanced" else None
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", weights)  # a checkpoint contains them

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """(B, T, D) -> (B, C)"""
        return self.out(self.drop(pool(hidden, batch["lengths"], self.pooling)))

    def loss(self, hidden: Tensor, batch: Batch) -> Loss:
        """Sum the weighted cross entropy over rows, in nats.

        (B, T, D) -> Loss

        A row has the weight of its class. `count` is the sum of the weights, so that total / count is PyTorch's
        weighted mean.
        """
        logits, labels = self(hidden, batch).float(), batch["labels"]
        losses = F.cross_entropy(logits, labels, reduction="none")  # (B,)
        if self.lm_out is not None and torch.is_grad_enabled():
            losses = losses + self.lm_loss_weight * mean_lm_losses(hidden, batch, self.lm_out)
        weights = torch.ones_like(losses) if self.class_weights is None else self.class_weights[labels]
        return Loss((weights * losses).sum(), weights.sum(), logits.detach())

    def metrics(self) -> dict[str, Any]:
        """Return loss in nats and the metrics of `class_metrics.py`."""
        from gptlab.heads.class_metrics import class_metrics
        from gptlab.heads.metrics import MeanLoss

        return {"loss": MeanLoss(), **class_metrics(self.n_classes)}


def pool(hidden: Tensor, lengths: Tensor, pooling: Pooling) -> Tensor:
    """Return one vector for each text.

    (B, T, D), (B,) -> (B, D)

    `last`: that of the last real token, which has seen all others. `first`: that of the first token, which has seen no
    other. `mean`: the mean over real tokens. `book`: position -1, even if it is padding, so that the prediction depends
    on the amount of padding.
    """
    if pooling == "first":
        return hidden[:, 0]
    if pooling == "book":
        return hidden[:, -1]
    if pooling == "last":
        return hidden[torch.arange(len(hidden), device=hidden.device), lengths - 1]
    real = torch.arange(hidden.size(1), device=hidden.device) < lengths[:, None]  # (B, T)
    return (hidden * real[..., None]).sum(1) / lengths[:, None]


def mean_lm_losses(hidden: Tensor, batch: Batch, projection: Projection) -> Tensor:
    """Return a language model's mean loss on each text, in nats.

    (B, T, D) -> (B,)

    It is 0 for a text of one token.
    """
    n_targets = batch["lengths"] - 1  # (B,)
    real = torch.arange(hidden.size(1) - 1, device=hidden.device) < n_targets[:, None]  # (B, T - 1)
    logits = projection(hidden[:, :-1][real]).float()  # (N, V), for the N tokens of all texts that have a next one
    losses = F.cross_entropy(logits, batch["ids"][:, 1:][real], reduction="none")  # (N,)
    sums = losses.new_zeros(len(hidden)).index_add(0, real.nonzero()[:, 0], losses)
    return sums / n_targets.clamp_min(1)
