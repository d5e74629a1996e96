"""Cross entropy of a linear projection, whole or without ever holding its logits.

N rows (batch x tokens), D embedding, V vocabulary, R rows in a chunk.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gptlab.batch import IGNORE_INDEX


def cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, *, chunk_rows: int | None) -> Tensor:
    """sum over scored rows of  logsumexp(W h) - (W h)[target],  in nats.

    hidden (N, D), weight (V, D), targets (N,) -> (). Rows whose target is IGNORE_INDEX are not scored.

    Args:
        chunk_rows: R: only (R, V) logits exist at a time, and the gradient is computed beside the loss, chunk by chunk;
            None is the plain form with all (N, V) of them. Equal in value and gradient. No double backward.
    """
    if chunk_rows is None:
        return _plain(hidden, weight, targets, "sum")
    # inside forward() torch reports gradients as wanted under no_grad too, so it is told
    return _ChunkedCrossEntropy.apply(hidden, weight, targets, chunk_rows, torch.is_grad_enabled())


def token_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, *, chunk_rows: int | None) -> Tensor:
    """The addends of `cross_entropy`, one a row, without gradient; 0 where the target is IGNORE_INDEX.

    hidden (N, D), weight (V, D), targets (N,) -> (N,)
    """
    with torch.no_grad():
        rows = zip(hidden.split(chunk_rows or len(hidden)), targets.split(chunk_rows or len(hidden)), strict=True)
        return torch.cat([_plain(h, weight, t, "none") for h, t in rows])


def token_scores(hidden: Tensor, weight: Tensor, targets: Tensor, *, chunk_rows: int | None) -> tuple[Tensor, Tensor]:
    """The same, and beside each addend whether the target is the best guess: argmax of W h.

    hidden (N, D), weight (V, D), targets (N,) -> (N,), (N,) bool
    """
    losses, right = [], []
    with torch.no_grad():
        for h, t in zip(hidden.split(chunk_rows or len(hidden)), targets.split(chunk_rows or len(hidden)), strict=True):
            logits = _logits(h, weight)  # (R, V)
            losses.append(_cross_entropy(logits, t, "none"))
            right.append(logits.argmax(dim=-1) == t)
    return torch.cat(losses), torch.cat(right)


def _plain(hidden: Tensor, weight: Tensor, targets: Tensor, reduction: str) -> Tensor:
    return _cross_entropy(_logits(hidden, weight), targets, reduction)


def _logits(hidden: Tensor, weight: Tensor) -> Tensor:
    """(N, D) -> (N, V), in no less than float32"""
    logits = F.linear(hidden, weight)
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _cross_entropy(logits: Tensor, targets: Tensor, reduction: str) -> Tensor:
    return F.cross_entropy(logits, targets, ignore_index=IGNORE_INDEX, reduction=reduction)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """d loss / d logits = softmax(logits) - onehot(target), which needs no more than the chunk at hand."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, chunk_rows: int, learning: bool) -> Tensor:
        device = hidden.device.type
        mixed = torch.is_autocast_enabled(device)
        low = torch.get_autocast_dtype(device) if mixed else hidden.dtype
        h, w = hidden.to(low), weight.to(low)  # cast once, not once a chunk
        total = torch.zeros((), dtype=torch.promote_types(hidden.dtype, torch.float32), device=hidden.device)
        d_hidden = torch.empty_like(h) if learning and ctx.needs_input_grad[0] else None
        d_weight = torch.zeros_like(weight) if learning and ctx.needs_input_grad[1] else None
        for start in range(0, h.size(0), chunk_rows):
            rows = slice(start, start + chunk_rows)
            logits = (h[rows] @ w.T).to(total.dtype)  # (R, V)
            scored = targets[rows] != IGNORE_INDEX
            target = targets[rows].clamp_min(0)[:, None]
            norm = logits.logsumexp(dim=-1, keepdim=True)  # (R, 1)
            total += ((norm - logits.gather(1, target))[:, 0] * scored).sum()
            if d_hidden is None and d_weight is None:
                continue
            d_logits = logits.sub_(norm).exp_()  # softmax, in the logits' own memory
            d_logits.scatter_add_(1, target, torch.full_like(norm, -1.0))
            d_logits = d_logits.mul_(scored[:, None]).to(low)
            if d_hidden is not None:
                torch.mm(d_logits, w, out=d_hidden[rows])
            if d_weight is not None:
                d_weight += d_logits.T @ h[rows]
        ctx.dtypes = hidden.dtype, weight.dtype
        ctx.save_for_backward(d_hidden, d_weight)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        d_hidden, d_weight = ctx.saved_tensors
        (grad,) = grads
        hidden_dtype, weight_dtype = ctx.dtypes
        return (
            None if d_hidden is None else d_hidden.to(hidden_dtype) * grad.to(hidden_dtype),
            None if d_weight is None else d_weight.to(weight_dtype) * grad.to(weight_dtype),
            None,
            None,
            None,
        )
