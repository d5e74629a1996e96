"""Cross entropy of a linear projection, whole or without ever holding its logits.

N rows (batch x tokens), D embedding, V vocabulary, R rows in a chunk, K rows in a block of one.
"""

from collections.abc import Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from gptlab.batch import IGNORE_INDEX

ChunkRows = int | Literal["auto"] | None
CACHE_BYTES = 4 * 2**20  # bytes of float32 logits that are normalised at once on a CPU: they stay in its cache


def cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, *, chunk_rows: ChunkRows) -> Tensor:
    """sum over scored rows of  logsumexp(W h) - (W h)[target],  in nats.

    hidden (N, D), weight (V, D), targets (N,) -> (). Rows whose target is IGNORE_INDEX are not scored.

    Args:
        chunk_rows: R: only (R, V) logits exist at a time, and the gradient is computed beside the loss, chunk by chunk;
            `auto` takes as many as the device has room for, see `logit_rows`; None is the plain form with all (N, V)
            of them. Equal in value and gradient. No double backward.
    """
    if chunk_rows is None:
        return _plain(hidden, weight, targets, "sum")
    # inside forward() torch reports gradients as wanted under no_grad too, so it is told
    learning = torch.is_grad_enabled()
    rows = logit_rows(chunk_rows, weight, learning=learning)
    return _ChunkedCrossEntropy.apply(hidden, weight, targets, rows, learning)


def logit_rows(chunk_rows: int | Literal["auto"], weight: Tensor, *, learning: bool) -> int:
    """R at most; for `auto` as many as fit in 1 GB of logits on a GPU, on a CPU in 64 MB, while learning in 128 or 256.

    weight (V, D). A chunk adds to the whole (V, D) gradient: within its product where both are of one format; where the
    weight is wider, in a pass of its own, so that fewer and larger chunks are faster. Without a gradient small ones
    are, which stay near the cores.
    """
    if chunk_rows != "auto":
        return chunk_rows
    low = _low(weight)
    on_cpu = 2**26 if not learning else 2**27 if low == weight.dtype else 2**28
    room = on_cpu if weight.device.type == "cpu" else 2**30
    return max(1, room // (len(weight) * low.itemsize))


def token_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, *, chunk_rows: ChunkRows) -> Tensor:
    """The addends of `cross_entropy`, one a row, without gradient; 0 where the target is IGNORE_INDEX.

    hidden (N, D), weight (V, D), targets (N,) -> (N,)
    """
    with torch.no_grad():
        return torch.cat([_plain(h, weight, t, "none") for h, t in _chunks(hidden, weight, targets, chunk_rows)])


def token_scores(hidden: Tensor, weight: Tensor, targets: Tensor, *, chunk_rows: ChunkRows) -> tuple[Tensor, Tensor]:
    """The same, and beside each addend whether the target is the best guess: argmax of W h.

    hidden (N, D), weight (V, D), targets (N,) -> (N,), (N,) bool
    """
    losses, right = [], []
    with torch.no_grad():
        for h, t in _chunks(hidden, weight, targets, chunk_rows):
            logits = _logits(h, weight)  # (R, V)
            losses.append(_cross_entropy(logits, t, "none"))
            right.append(logits.argmax(dim=-1) == t)
    return torch.cat(losses), torch.cat(right)


def _chunks(hidden: Tensor, weight: Tensor, targets: Tensor, chunk_rows: ChunkRows) -> Iterator[tuple[Tensor, Tensor]]:
    """(R, D) and (R,) of each chunk."""
    rows = len(hidden) if chunk_rows is None else logit_rows(chunk_rows, weight, learning=False)
    return zip(hidden.split(rows), targets.split(rows), strict=True)


def _plain(hidden: Tensor, weight: Tensor, targets: Tensor, reduction: str) -> Tensor:
    return _cross_entropy(_logits(hidden, weight), targets, reduction)


def _logits(hidden: Tensor, weight: Tensor) -> Tensor:
    """(N, D) -> (N, V), in no less than float32"""
    logits = F.linear(hidden, weight)
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _cross_entropy(logits: Tensor, targets: Tensor, reduction: str) -> Tensor:
    return F.cross_entropy(logits, targets, ignore_index=IGNORE_INDEX, reduction=reduction)


def _low(weight: Tensor) -> torch.dtype:
    """The number format of products here: autocast's, or the weight's own."""
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def _kept(targets: Tensor) -> Any:
    """Which rows are computed: those that are scored; all on a GPU, which counting would hold up, and compiled."""
    if targets.device.type != "cpu" or torch.compiler.is_compiling():
        return slice(None)
    scored = targets != IGNORE_INDEX
    return slice(None) if scored.all() else scored.nonzero()[:, 0]


def _filled_up(weight: Tensor) -> Tensor:
    """On a GPU with rows of 0 up to a multiple of 64, in which its products are faster.   (V, D) -> (V or more, D)"""
    more = -len(weight) % _multiple(weight.device)
    return F.pad(weight, (0, 0, 0, more)) if more else weight


def _multiple(device: torch.device) -> int:
    return 1 if device.type == "cpu" else 64


def _slices(n: int, size: int) -> Iterator[slice]:
    """At least one, also of nothing."""
    return (slice(start, min(start + size, n)) for start in range(0, max(n, 1), size))


class _ChunkedCrossEntropy(torch.autograd.Function):
    """d loss / d logits = softmax(logits) - onehot(target), which needs no more than the chunk at hand."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, chunk_rows: int, learning: bool) -> Tensor:
        low, wide = _low(weight), torch.promote_types(hidden.dtype, torch.float32)
        kept = _kept(targets)
        h, w = hidden[kept].to(low), _filled_up(weight.to(low))  # cast once, not once a chunk
        V = len(weight)
        total = torch.zeros((), dtype=wide, device=hidden.device)
        d_hidden = h.new_zeros(hidden.shape) if learning and ctx.needs_input_grad[0] else None
        d_weight = None
        n_chunks = -(-len(h) // chunk_rows) or 1
        R = -(-len(h) // n_chunks)  # chunks of one size, not some full ones and a rest
        buffer = h.new_empty(R, len(w))  # (R, V), the only one: logits, then their gradient
        for rows in _slices(len(h), R or 1):
            scores = torch.mm(h[rows], w.T, out=buffer[: rows.stop - rows.start])
            total += _score(scores[:, :V], targets[kept][rows], wide)  # what lies behind V is 0 and stays it
            if d_hidden is not None:
                d_hidden[rows if isinstance(kept, slice) else kept[rows]] = scores @ w
            if learning and ctx.needs_input_grad[1]:
                if d_weight is None:
                    d_weight = scores.T @ h[rows]  # (V, D); only a sum of several is wider than a product
                    d_weight = d_weight if n_chunks == 1 else d_weight.to(weight.dtype)
                elif d_weight.dtype == low:
                    torch.addmm(d_weight, scores.T, h[rows], out=d_weight)
                else:
                    d_weight.add_(scores.T @ h[rows])
        ctx.dtypes = hidden.dtype, weight.dtype
        ctx.save_for_backward(d_hidden, None if d_weight is None else d_weight[:V])
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        d_hidden, d_weight = (
            None if saved is None else saved.to(dtype, copy=True).mul_(grads[0])
            for saved, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        )
        return d_hidden, d_weight, None, None, None


def _score(logits: Tensor, targets: Tensor, wide: torch.dtype) -> Tensor:
    """The loss of a chunk's rows () in the format `wide`; (R, V) logits become the loss's gradient by them."""
    total = torch.zeros((), dtype=wide, device=logits.device)
    n_rows = CACHE_BYTES // (4 * logits.size(1)) if logits.device.type == "cpu" else len(logits)
    for block in _slices(len(logits), max(1, n_rows)):
        scored = targets[block, None] != IGNORE_INDEX  # (K, 1)
        target = targets[block, None].clamp_min(0)
        z = logits[block].to(wide)  # (K, V)
        p = z.softmax(dim=-1)
        norm = (
            z.amax(dim=-1, keepdim=True) - p.amax(dim=-1, keepdim=True).log()
        )  # logsumexp, as max p = exp(max z - it)
        total += ((norm - z.gather(1, target)) * scored).sum()
        p.scatter_add_(1, target, torch.full_like(norm, -1.0))
        logits[block] = p.mul_(scored)
    return total
