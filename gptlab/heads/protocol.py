"""The protocols that heads implement.

B batch, T tokens, D embedding, V vocabulary.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from gptlab.batch import Batch


class Loss(NamedTuple):
    """The loss of one batch, as a sum and a count."""

    total: Tensor  # (), the SUM over scored items, differentiable
    count: Tensor  # type: ignore[assignment]  # (), how many tokens, rows or pairs were scored
    logits: Tensor | None  # detached; None where projection and loss are fused
    hits: Tensor | None = None  # (), scored items whose best guess was right; None if not counted


class Monitor(NamedTuple):
    """The validation metric by which the best weights are chosen."""

    name: str
    mode: Literal["min", "max"]


class HeadContext(NamedTuple):
    """The facts about a run from which its head is built."""

    vocab_size: int
    token_bytes: np.ndarray | None  # (V,), bytes of text behind each id; None where the tokenizer can lose text
    labels: Mapping[str, int] = MappingProxyType({})  # classes in order, and how many training rows each has


class Head(Protocol):
    """Turns hidden vectors into a loss and into predictions.

    A yaml builds it as a partial that waits for `(model, context)`.
    """

    needs: tuple[str, ...]  # the Batch keys it reads
    monitor: Monitor

    def __call__(self, hidden: Tensor, batch: Batch) -> Tensor:
        """(B, T, D) -> logits"""

    def loss(self, hidden: Tensor, batch: Batch) -> Loss:
        """(B, T, D) -> Loss"""

    def metrics(self) -> dict[str, Any]:
        """Return new torchmetrics by name.

        Each is updated with `(loss, batch)`, and computes a number at the end of an evaluation.
        """


@runtime_checkable
class TokenHead(Head, Protocol):
    """A head that predicts the next token.

    The logits of a position depend on its own hidden vector alone: to score some positions, pass their vectors as one
    row.
    """

    def token_losses(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Return each target's loss in nats, without gradient.

        (B, T, D) -> (B, T); 0 where the target is IGNORE_INDEX
        """

    def token_scores(self, hidden: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the token losses, and whether each target is the best guess.

        (B, T, D) -> (B, T), (B, T) bool
        """


@runtime_checkable
class ReferenceHead(Head, Protocol):
    """A head that compares the model with its initial weights."""

    def capture_reference(self, stored: torch.dtype) -> None:
        """Keep the current model as the reference.

        Called once before the first step, after loading initial weights and adding adapters.

        Args:
            stored: a dtype that holds the matrices exactly.
        """
