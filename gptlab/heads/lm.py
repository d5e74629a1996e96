"""The language-model head: which token comes next.   B batch, T tokens, D embedding, V vocabulary."""

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
    """Projects each hidden vector onto the vocabulary.

    Args:
        tied, loss_chunk_rows: see `Projection`.
    """

    needs = ("ids", "targets")
    monitor = Monitor("val/loss", "min")

    def __init__(self, model: GPT, given: HeadContext, *, tied: Tied, loss_chunk_rows: ChunkRows) -> None:
        super().__init__()
        self.token_bytes = given.token_bytes
        self.out = Projection(model, given.vocab_size, tied=tied, loss_chunk_rows=loss_chunk_rows)

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """(B, T, D) -> (B, T, V)"""
        return self.out(hidden)

    def loss(self, hidden: Tensor, batch: Batch) -> Loss:
        """(B, T, D) -> cross entropy in nats, summed over the targets that are not IGNORE_INDEX"""
        return self.out.loss(hidden, batch)

    def token_losses(self, hidden: Tensor, batch: Batch) -> Tensor:
        """(B, T, D) -> (B, T), what each target adds to the loss, in nats; no gradient"""
        return self.out.token_losses(hidden, batch)

    def token_scores(self, hidden: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The same, and whether each target is the best guess."""
        return self.out.token_scores(hidden, batch)

    def metrics(self) -> dict[str, Any]:
        """loss in nats, perplexity and, where the tokenizer loses no text, bits per byte."""
        from gptlab.heads.metrics import BitsPerByte, MeanLoss, Perplexity

        metrics: dict[str, Any] = {"loss": MeanLoss(), "perplexity": Perplexity()}
        if self.token_bytes is not None:
            metrics["bits_per_byte"] = BitsPerByte(torch.as_tensor(self.token_bytes))
        return metrics
