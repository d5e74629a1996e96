"""The projection onto the vocabulary, shared by heads that predict tokens.

B batch, T tokens, D embedding, V vocabulary.
"""

from typing import Literal, cast

from torch import Tensor, nn

from gptlab.batch import IGNORE_INDEX, Batch
from gptlab.heads.cross_entropy import ChunkRows, cross_entropy, token_cross_entropy, token_scores
from gptlab.heads.protocol import Loss
from gptlab.model.gpt import GPT
from gptlab.model.init import initialise
from gptlab.model.linear import AnyFormat, linear

Tied = bool | Literal["auto"]


class Projection(AnyFormat, nn.Module):
    """The output matrix, and the losses of targets under it.

    Args:
        tied: True: the matrix is the token embedding itself (arXiv 1608.05859), and no parameter of this module. False:
            a matrix of its own, without bias. `auto`: tied unless pretrained weights are not.
        loss_chunk_rows: rows of logits that exist at once; None is all, see `cross_entropy`.
    """

    weight: Tensor | None

    def __init__(self, model: GPT, vocab_size: int, *, tied: Tied, loss_chunk_rows: ChunkRows) -> None:
        super().__init__()
        self.loss_chunk_rows = loss_chunk_rows
        self.backbone = (model,)  # in a tuple, or nn.Module would register its parameters as the head's
        self.register_parameter("weight", None)
        if not tied:
            out = nn.Linear(model.emb_dim, vocab_size, bias=False)
            if model.init != "torch":
                initialise(out, init="gpt2", n_layers=0)
            self.weight = out.weight

    @property
    def matrix(self) -> Tensor:
        """Return the output matrix (V, D).

        It is read at each call, because loading weights may replace the embedding.
        """
        return cast(Tensor, self.owner.weight)

    @property
    def owner(self) -> nn.Module:
        """Return the module whose `weight` is the matrix."""
        return self.backbone[0].tok_emb if self.weight is None else self

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., V)"""
        return linear(hidden, self.matrix)

    def loss(self, hidden: Tensor, batch: Batch) -> Loss:
        """Sum the cross entropy over scored targets, in nats.

        (B, T, D) -> Loss
        """
        targets = batch["targets"].flatten()
        total = cross_entropy(hidden.flatten(0, 1), self.matrix, targets, chunk_rows=self.loss_chunk_rows)
        return Loss(total, (targets != IGNORE_INDEX).sum(), None)

    def token_losses(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Return the loss of each target, see `TokenHead`.

        (B, T, D) -> (B, T)
        """
        targets = batch["targets"]
        losses = token_cross_entropy(
            hidden.flatten(0, 1), self.matrix, targets.flatten(), chunk_rows=self.loss_chunk_rows
        )
        return losses.view_as(targets)

    def token_scores(self, hidden: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return losses and hits, see `TokenHead`.

        (B, T, D) -> (B, T), (B, T) bool
        """
        targets = batch["targets"]
        scores = token_scores(hidden.flatten(0, 1), self.matrix, targets.flatten(), chunk_rows=self.loss_chunk_rows)
        losses, correct = (score.view_as(targets) for score in scores)
        return losses, correct
