"""Hidden vectors onto the vocabulary: what every head that predicts tokens has.

B batch, T tokens, D embedding, V vocabulary.
"""

from typing import Literal

from torch import Tensor, nn

from gptlab.batch import IGNORE_INDEX, Batch
from gptlab.heads.cross_entropy import cross_entropy, token_cross_entropy
from gptlab.heads.protocol import Loss
from gptlab.model.gpt import GPT
from gptlab.model.init import initialise


def output_matrix(model: GPT, vocab_size: int, *, tied: bool | Literal["auto"]) -> nn.Linear | None:
    """A matrix of the head's own, (V, D), without bias; None where the token embedding itself is it."""
    if tied:
        return None
    out = nn.Linear(model.emb_dim, vocab_size, bias=False)
    if model.init != "torch":
        initialise(out, init="gpt2", n_layers=0)
    return out


def projected_loss(hidden: Tensor, weight: Tensor, batch: Batch, *, chunk_rows: int | None) -> Loss:
    """(B, T, D) -> cross entropy in nats, summed over the targets that are not IGNORE_INDEX"""
    targets = batch["targets"].flatten()
    total = cross_entropy(hidden.flatten(0, 1), weight, targets, chunk_rows=chunk_rows)
    return Loss(total, (targets != IGNORE_INDEX).sum(), None)


def projected_token_losses(hidden: Tensor, weight: Tensor, batch: Batch, *, chunk_rows: int | None) -> Tensor:
    """(B, T, D) -> (B, T), what each target adds to the loss, in nats; no gradient"""
    targets = batch["targets"]
    losses = token_cross_entropy(hidden.flatten(0, 1), weight, targets.flatten(), chunk_rows=chunk_rows)
    return losses.view_as(targets)
