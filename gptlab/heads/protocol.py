"""What a head is.   B batch, T tokens, D embedding, V vocabulary."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from gptlab.batch import Batch


class Loss(NamedTuple):
    """What one batch costs."""

    total: Tensor  # (), the SUM over scored items, differentiable
    count: Tensor  # type: ignore[assignment]  # (), how many tokens, rows or pairs were scored
    logits: Tensor | None  # detached; None where projection and loss are fused
    hits: Tensor | None = None  # (), scored items that the best guess had right; None where nobody counted


class Monitor(NamedTuple):
    """The validation metric that says which weights are best."""

    name: str
    mode: Literal["min", "max"]


class HeadContext(NamedTuple):
    """What a run knows by the time it builds a head."""

    vocab_size: int
    token_bytes: np.ndarray | None  # (V,), bytes of text behind each id; None where the tokenizer can lose text
    labels: Mapping[str, int] = MappingProxyType({})  # classes in order, and how many training rows each has


class Head(Protocol):
    """Turns hidden vectors into a loss and into answers. A yaml builds it as a partial on `(model, given)`."""

    needs: tuple[str, ...]  # the Batch keys it reads
    monitor: Monitor

    def __call__(self, hidden: Tensor, batch: Batch) -> Tensor:
        """(B, T, D) -> logits"""

    def loss(self, hidden: Tensor, batch: Batch) -> Loss:
        """(B, T, D) -> Loss"""

    def metrics(self) -> dict[str, Any]:
        """Fresh torchmetrics by name, each updated with `(loss, batch)` and a number at the end of an evaluation."""


@runtime_checkable
class TokenHead(Head, Protocol):
    """A head that predicts the next token: its logits score the vocabulary, each place by its own hidden vector alone.

    So whoever needs only some of the places may give only their vectors, in one row.
    """

    def token_losses(self, hidden: Tensor, batch: Batch) -> Tensor:
        """(B, T, D) -> (B, T), what each target adds to the loss, in nats; 0 where it is IGNORE_INDEX; no gradient"""

    def token_scores(self, hidden: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The same, and whether the target is the best guess.   (B, T, D) -> (B, T), (B, T) bool"""


@runtime_checkable
class ReferenceHead(Head, Protocol):
    """A head that compares what is learned with what the run began with."""

    def begin(self) -> None:
        """Notes the model as it is now: the first weights are in it, an adapter is on it, and nothing is learned."""
