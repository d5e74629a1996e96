"""The language-model head: it predicts the next token.

B batch, T tokens, D embedding, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor, nn

from gptlab.batch import Batch
from gptlab.heads.cross_entropy import ChunkRows
from gptlab.heads.projection import Projection, Tied
from gptlab.heads.protocol import HeadContext, Loss, Monitor
from gptlab.model.gpt import GPT
from gptlab.slots import slot


@slot("head")
class LMHead(nn.Module):
    """Projects each hidden vector onto the vocabulary (the book, chapter 5).

    Args:
        tied, loss_chunk_rows: see `Projection`.
    """

    needs = ("ids", "targets")
    monitor = Monitor("val/loss", "min")

    def __init__(self, model: GPT, context: HeadContext, *, tied: Tied, loss_chunk_rows: ChunkRows) -> None:
        super().__init__()
        self.token_bytes = context.token_bytes
        self.out = Projection(model, context.vocab_size, tied=tied, loss_chunk_rows=loss_chunk_rows)

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """(B, T, D) -> (B, T, V)"""
        return self.out(hidden)

    def loss(self, hidden: Tensor, batch: Batch) -> Loss:
        """Sum the cross entropy over scored targets, in nats.

        (B, T, D) -> Loss
        """
        return self.out.loss(hidden, batch)

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
        """Return loss in nats, perplexity and bits per byte.

        There are no bits per byte where the tokenizer can lose text.
        """
        from gptlab.heads.metrics import BitsPerByte, MeanLoss, Perplexity

        metrics: dict[str, Any] = {"loss": MeanLoss(), "perplexity": Perplexity()}
        if self.token_bytes is not None:
            metrics["bits_per_byte"] = BitsPerByte(torch.as_tensor(self.token_bytes))
        return metrics
