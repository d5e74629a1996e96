"""The language-model head: which token comes next.   B batch, T tokens, D embedding, V vocabulary."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.batch import Batch
from gptlab.heads.projection import output_matrix, projected_loss, projected_token_losses
from gptlab.heads.protocol import Given, Loss, Monitor
from gptlab.model.gpt import GPT


class LMHead(nn.Module):
    """Projects each hidden vector onto the vocabulary.

    Args:
        tied: the projection is the token embedding itself (arXiv 1608.05859); False is a matrix of its own, without
            bias. `auto` is tied, but where pretrained weights are not.
        chunk_rows: rows of logits that exist at once while learning; None is all, see `cross_entropy`.
    """

    needs = ("ids", "targets")
    monitor = Monitor("val/loss", "min")

    def __init__(self, model: GPT, given: Given, *, tied: bool | Literal["auto"], chunk_rows: int | None) -> None:
        super().__init__()
        self.chunk_rows = chunk_rows
        self.token_bytes = given.token_bytes
        self.backbone = (model,)  # in a tuple, so that the model's parameters do not become the head's too
        self.out = output_matrix(model, given.vocab_size, tied=tied)

    @property
    def weight(self) -> Tensor:
        """(V, D), read anew at each call: loading weights may have replaced the embedding."""
        return self.backbone[0].tok_emb.weight if self.out is None else self.out.weight

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """(B, T, D) -> (B, T, V)"""
        return F.linear(hidden, self.weight)

    def loss(self, hidden: Tensor, batch: Batch) -> Loss:
        """(B, T, D) -> cross entropy in nats, summed over the targets that are not IGNORE_INDEX"""
        return projected_loss(hidden, self.weight, batch, chunk_rows=self.chunk_rows)

    def token_losses(self, hidden: Tensor, batch: Batch) -> Tensor:
        """(B, T, D) -> (B, T), what each target adds to the loss, in nats; no gradient"""
        return projected_token_losses(hidden, self.weight, batch, chunk_rows=self.chunk_rows)

    def metrics(self) -> dict[str, Any]:
        """loss in nats, perplexity and, where the tokenizer loses no text, bits per byte."""
        from gptlab.heads.metrics import BitsPerByte, MeanLoss, Perplexity

        metrics: dict[str, Any] = {"loss": MeanLoss(), "perplexity": Perplexity()}
        if self.token_bytes is not None:
            metrics["bits_per_byte"] = BitsPerByte(torch.as_tensor(self.token_bytes))
        return metrics
