"""A head from outside gptlab, which predicts the length of the next token.   B batch, T tokens, D embedding"""

from typing import Any

import torch
from torch import Tensor, nn

from gptlab.batch import IGNORE_INDEX, Batch
from gptlab.heads.metrics import MeanLoss
from gptlab.heads.protocol import HeadContext, Loss, Monitor
from gptlab.model.gpt import GPT


class LengthHead(nn.Module):
    """Predicts one number a token, scored by its squared error."""

    needs = ("ids", "targets")
    monitor = Monitor("val/error", "min")

    def __init__(self, model: GPT, context: HeadContext, *, scale: float) -> None:
        super().__init__()
        assert context.token_bytes is not None
        self.register_buffer("lengths", torch.as_tensor(context.token_bytes).float() * scale, persistent=False)
        self.out = nn.Linear(model.emb_dim, 1)

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """(B, T, D) -> (B, T, 1)"""
        return self.out(hidden)

    def loss(self, hidden: Tensor, batch: Batch) -> Loss:
        """(B, T, D) -> Loss"""
        scored = batch["targets"] != IGNORE_INDEX
        wanted = self.lengths[batch["targets"].clamp_min(0)]
        error = (self(hidden, batch)[..., 0] - wanted).square() * scored
        return Loss(error.sum(), scored.sum(), None)

    def metrics(self) -> dict[str, Any]:
        """Return the mean squared error."""
        return {"error": MeanLoss()}
