"""The assistant's head: a language model's, judged by its answers.   B batch, T tokens, D embedding, V vocabulary."""

from typing import Any

import torch
from torch import Tensor, nn

from gptlab.batch import IGNORE_INDEX, Batch
from gptlab.heads.cross_entropy import ChunkRows
from gptlab.heads.projection import Projection, Tied
from gptlab.heads.protocol import HeadContext, Loss, Monitor
from gptlab.model.gpt import GPT
from gptlab.slots import slot


@slot("head")
class InstructionHead(nn.Module):
    """Projects each hidden vector onto the vocabulary. A language model's head goes on into it: the names are the same.

    Args:
        tied, loss_chunk_rows: see `Projection`.
    """

    needs = ("ids", "targets")
    monitor = Monitor("val/loss", "min")

    def __init__(self, model: GPT, given: HeadContext, *, tied: Tied, loss_chunk_rows: ChunkRows) -> None:
        super().__init__()
        self.out = Projection(model, given.vocab_size, tied=tied, loss_chunk_rows=loss_chunk_rows)

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """(B, T, D) -> (B, T, V)"""
        return self.out(hidden)

    def loss(self, hidden: Tensor, batch: Batch) -> Loss:
        """(B, T, D) -> cross entropy in nats, summed over the targets that are not IGNORE_INDEX.

        Where no gradient is wanted, hits are counted besides.
        """
        if torch.is_grad_enabled():
            return self.out.loss(hidden, batch)
        losses, right = self.token_scores(hidden, batch)
        return Loss(losses.sum(), (batch["targets"] != IGNORE_INDEX).sum(), None, right.sum())

    def token_losses(self, hidden: Tensor, batch: Batch) -> Tensor:
        """(B, T, D) -> (B, T), what each target adds to the loss, in nats; no gradient"""
        return self.out.token_losses(hidden, batch)

    def token_scores(self, hidden: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The same, and whether each target is the best guess."""
        return self.out.token_scores(hidden, batch)

    def metrics(self) -> dict[str, Any]:
        """loss in nats, perplexity, and accuracy: the share of learned tokens that are the best guess."""
        from gptlab.heads.metrics import Accuracy, MeanLoss, Perplexity

        return {"loss": MeanLoss(), "perplexity": Perplexity(), "accuracy": Accuracy()}
