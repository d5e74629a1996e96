"""Hidden vectors onto the vocabulary: what every head that predicts tokens has.

B batch, T tokens, D embedding, V vocabulary.
"""

from typing import Literal, cast

import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.batch import IGNORE_INDEX, Batch
from gptlab.heads.cross_entropy import ChunkRows, cross_entropy, token_cross_entropy, token_scores
from gptlab.heads.protocol import Loss
from gptlab.model.gpt import GPT
from gptlab.model.init import initialise

Tied = bool | Literal["auto"]


class Projection(nn.Module):
    """The output matrix, and what targets cost under it.

    Args:
        tied: it is the token embedding itself (arXiv 1608.05859), and no parameter of this module; False is a matrix of
            its own, without bias. `auto` is tied, but where pretrained weights are not.
        loss_chunk_rows: rows of logits that exist at once; None is all, see `cross_entropy`.
    """

    weight: Tensor | None

    def __init__(self, model: GPT, vocab_size: int, *, tied: Tied, loss_chunk_rows: ChunkRows) -> None:
        super().__init__()
        self.loss_chunk_rows = loss_chunk_rows
        self.backbone = (model,)  # in a tuple, so that the model's parameters do not become the head's too
        self.register_parameter("weight", None)
        if not tied:
            out = nn.Linear(model.emb_dim, vocab_size, bias=False)
            if model.init != "torch":
                initialise(out, init="gpt2", n_layers=0)
            self.weight = out.weight

    @property
    def matrix(self) -> Tensor:
        """(V, D), read anew at each call: loading weights may have replaced the embedding."""
        return cast(Tensor, self.owner.weight)

    @property
    def owner(self) -> nn.Module:
        """Whose `weight` the matrix is."""
        return self.backbone[0].tok_emb if self.weight is None else self

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., V)"""
        return F.linear(hidden, self.matrix)

    def loss(self, hidden: Tensor, batch: Batch) -> Loss:
        """(B, T, D) -> cross entropy in nats, summed over the targets that are not IGNORE_INDEX"""
        targets = batch["targets"].flatten()
        total = cross_entropy(hidden.flatten(0, 1), self.matrix, targets, chunk_rows=self.loss_chunk_rows)
        return Loss(total, (targets != IGNORE_INDEX).sum(), None)

    def token_losses(self, hidden: Tensor, batch: Batch) -> Tensor:
        """As `TokenHead` has it."""
        targets = batch["targets"]
        losses = token_cross_entropy(
            hidden.flatten(0, 1), self.matrix, targets.flatten(), chunk_rows=self.loss_chunk_rows
        )
        return losses.view_as(targets)

    def token_scores(self, hidden: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """As `TokenHead` has it."""
        targets = batch["targets"]
        scores = token_scores(hidden.flatten(0, 1), self.matrix, targets.flatten(), chunk_rows=self.loss_chunk_rows)
        losses, right = (each.view_as(targets) for each in scores)
        return losses, right
