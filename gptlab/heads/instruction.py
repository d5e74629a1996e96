"""The assistant's head: a language model's, scored on answers.

B batch, T tokens, D embedding, V vocabulary.
"""

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
    """Projects each hidden vector onto the vocabulary, and counts hits.

    Its parameters have the names of `LMHead`, so that a language model's weights load into it. The targets of its data
    are the tokens of answers (the book, chapter 7).

    Args:
        tied, loss_chunk_rows: see `Projection`.
    """

    needs = ("ids", "targets")
    monitor = Monitor("val/loss", "min")

    def __init__(self, model: GPT, context: HeadContext, *, tied: Tied, loss_chunk_rows: ChunkRows) -> None:
        super().__init__()
        self.out = Projection(model, context.vocab_size, tied=tied, loss_chunk_rows=loss_chunk_rows)

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """(B, T, D) -> (B, T, V)"""
        return self.out(hidden)

    def loss(self, hidden: Tensor, batch: Batch) -> Loss:
        """Sum the cross entropy over scored targets, in nats.

        (B, T, D) -> Loss

        Without a gradient, hits are counted too.
        """
        if torch.is_grad_enabled():
            return self.out.loss(hidden, batch)
        losses, correct = self.token_scores(hidden, batch)
        return Loss(losses.sum(), (batch["targets"] != IGNORE_INDEX).sum(), None, correct.sum())

    def token_losses(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Return the loss of each target, see `TokenHead`.

        (B, T, D) -> (B, T)
        """
        return self.out.token_losses(hidden, batch)

    def token_scores(self, hidden: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return losses and hits, see `TokenHead`.

        (B, T, D) -> (B, T), (B, T) bool
        """
        return self.out.token_scores(hidden, batch)

    def metrics(self) -> dict[str, Any]:
        """Return loss in nats, perplexity and accuracy.

        Accuracy is the share of scored tokens that are the best guess.
        """
        from gptlab.heads.metrics import Accuracy, MeanLoss, Perplexity

        return {"loss": MeanLoss(), "perplexity": Perplexity(), "accuracy": Accuracy()}
