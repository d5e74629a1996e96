"""Cross entropy of a linear projection, whole or in chunks.

N rows (batch x tokens), D embedding, V vocabulary, R rows in a chunk.
"""

from collections.abc import Iterator
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from gptlab.batch import IGNORE_INDEX
from gptlab.bounds import AtLeast
from gptlab.heads.chunked_cross_entropy import ChunkedCrossEntropy, logit_rows
from gptlab.model.linear import linear

ChunkRows = Annotated[int, AtLeast(1)] | Literal["auto"] | None


def cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, *, chunk_rows: ChunkRows) -> Tensor:
    """Sum of logsumexp(W h) - (W h)[target] over scored rows, in nats.

    hidden (N, D), weight (V, D), targets (N,) -> (). Rows whose target is IGNORE_INDEX are not scored.

    Args:
        chunk_rows: R. Only (R, V) logits exist at a time, and the gradient is computed beside the loss; `auto` takes as
            many rows as the device has room for, see `logit_rows`. None is the plain form with all (N, V) logits. The
            two are equal in value and gradient; the chunked form has no double backward.
    """
    if chunk_rows is None:
        return _plain(_logits(hidden, weight), targets, "sum")
    with_gradient = torch.is_grad_enabled()  # within its forward() an autograd function cannot see that it is off
    n_rows = logit_rows(chunk_rows, hidden, weight, with_gradient=with_gradient)
    return ChunkedCrossEntropy.apply(hidden, weight, targets, n_rows, with_gradient)


def token_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, *, chunk_rows: ChunkRows) -> Tensor:
    """Return the cross entropy of each row, without gradient.

    hidden (N, D), weight (V, D), targets (N,) -> (N,); 0 where the target is IGNORE_INDEX
    """
    with torch.no_grad():
        chunks = _chunks(hidden, weight, targets, chunk_rows)
        return torch.cat([_plain(_logits(h, weight), t, "none") for h, t in chunks])


def token_scores(hidden: Tensor, weight: Tensor, targets: Tensor, *, chunk_rows: ChunkRows) -> tuple[Tensor, Tensor]:
    """Return each row's cross entropy, and whether its target is the best guess.

    hidden (N, D), weight (V, D), targets (N,) -> (N,), (N,) bool. The best guess is the argmax of W h.
    """
    losses, correct = [], []
    with torch.no_grad():
        for h, t in _chunks(hidden, weight, targets, chunk_rows):
            logits = _logits(h, weight)  # (R, V)
            losses.append(_plain(logits, t, "none"))
            correct.append(logits.argmax(dim=-1) == t)
    return torch.cat(losses), torch.cat(correct)


def _chunks(hidden: Tensor, weight: Tensor, targets: Tensor, chunk_rows: ChunkRows) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the hidden vectors (R, D) and targets (R,) of each chunk."""
    n_rows = len(hidden) if chunk_rows is None else logit_rows(chunk_rows, hidden, weight, with_gradient=False)
    return zip(hidden.split(n_rows), targets.split(n_rows), strict=True)


def _logits(hidden: Tensor, weight: Tensor) -> Tensor:
    """(N, D) -> (N, V), in float32 or wider."""
    logits = linear(hidden, weight)
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _plain(logits: Tensor, targets: Tensor, reduction: str) -> Tensor:
    return F.cross_entropy(logits, targets, ignore_index=IGNORE_INDEX, reduction=reduction)
