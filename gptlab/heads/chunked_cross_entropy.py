"""Cross entropy of a linear projection that never holds all logits.

The gradient is computed beside the loss, chunk by chunk, because d loss / d logits = softmax(logits) - onehot(target)
only needs the current chunk.
N rows (batch x tokens), D embedding, V vocabulary, R rows in a chunk, K rows in a block of one.
"""

from collections.abc import Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from gptlab.batch import IGNORE_INDEX
from gptlab.model.linear import product_dtype

BLOCK_BYTES = 4 * 2**20  # float32 logits that a CPU normalises at once: they stay in its cache


def logit_rows(chunk_rows: int | Literal["auto"], hidden: Tensor, weight: Tensor, *, with_gradient: bool) -> int:
    """Return R, the most rows whose logits exist at once.

    hidden (N, D), weight (V, D)

    `auto` allows 1 GB of logits on a GPU; on a CPU 64 MB, and with a gradient 128 or 256 MB. Each chunk adds its
    gradient to that of the whole weight (V, D): inside the product if the dtypes agree, else in a separate pass, so
    fewer and larger chunks are faster. Without a gradient small chunks are faster, because they stay in the caches.
    """
    if chunk_rows != "auto":
        return chunk_rows
    dtype = product_dtype(hidden, weight)
    n_bytes = chunk_bytes(weight.device.type, alike=dtype == hidden.dtype, with_gradient=with_gradient)
    return max(1, n_bytes // (len(weight) * dtype.itemsize))


def chunk_bytes(device: str, *, alike: bool, with_gradient: bool) -> int:
    """Return the bytes of logits that `auto` allows on a kind of device.

    Args:
        alike: whether products have the dtype of the hidden vectors.
    """
    if device != "cpu":
        return 2**30
    return 2**26 if not with_gradient else 2**27 if alike else 2**28


class ChunkedCrossEntropy(torch.autograd.Function):
    """Sum of logsumexp(W h) - (W h)[target] over scored rows.

    (N, D), (V, D), (N,) -> ()
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, chunk_rows: int, with_gradient: bool
    ) -> Tensor:
        dtype, wide = product_dtype(hidden, weight), torch.promote_types(hidden.dtype, torch.float32)
        scored = _scored_rows(targets)
        h, w = hidden[scored].to(dtype), _pad_rows(weight.to(dtype))  # cast once, not once a chunk
        V = len(weight)
        total = torch.zeros((), dtype=wide, device=hidden.device)
        d_hidden = h.new_zeros(hidden.shape) if with_gradient and ctx.needs_input_grad[0] else None
        d_weight = None
        n_chunks = -(-len(h) // chunk_rows) or 1
        R = -(-len(h) // n_chunks)  # chunks of equal size, rather than full ones and a small rest
        buffer = h.new_empty(R, len(w))  # (R, V), reused: logits, then their gradient
        for rows in _slices(len(h), R or 1):
            scores = torch.mm(h[rows], w.T, out=buffer[: rows.stop - rows.start])
            total += _replace_by_gradient(scores[:, :V], targets[scored][rows], wide)  # padding is 0 and stays 0
            if d_hidden is not None:
                d_hidden[rows if isinstance(scored, slice) else scored[rows]] = scores @ w
            if with_gradient and ctx.needs_input_grad[1]:
                if d_weight is None:
                    d_weight = scores.T @ h[rows]  # (V, D); only a sum of several is wider than a product
                    d_weight = d_weight if n_chunks == 1 else d_weight.to(weight.dtype)
                elif d_weight.dtype == dtype:
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


def _replace_by_gradient(logits: Tensor, targets: Tensor, wide: torch.dtype) -> Tensor:
    """Return a chunk's loss, and overwrite logits by their gradient.

    (R, V), (R,) -> () in `wide`
    """
    total = torch.zeros((), dtype=wide, device=logits.device)
    n_rows = BLOCK_BYTES // (4 * logits.size(1)) if logits.device.type == "cpu" else len(logits)
    for block in _slices(len(logits), max(1, n_rows)):
        scored = targets[block, None] != IGNORE_INDEX  # (K, 1)
        target = targets[block, None].clamp_min(0)
        z = logits[block].to(wide)  # (K, V)
        p = z.softmax(dim=-1)
        # max p = exp(max z - logsumexp z), so the sum over V need not be computed again
        logsumexp = z.amax(dim=-1, keepdim=True) - p.amax(dim=-1, keepdim=True).log()
        total += ((logsumexp - z.gather(1, target)) * scored).sum()
        p.scatter_add_(1, target, torch.full_like(logsumexp, -1.0))
        logits[block] = p.mul_(scored)
    return total


def _scored_rows(targets: Tensor) -> Any:
    """Return the indices of scored rows.

    (N,) -> (N or fewer,)

    All rows on a GPU, where counting the scored ones would block, and under the compiler.
    """
    if targets.device.type != "cpu" or torch.compiler.is_compiling():
        return slice(None)
    scored = targets != IGNORE_INDEX
    return slice(None) if scored.all() else scored.nonzero()[:, 0]


def _pad_rows(weight: Tensor) -> Tensor:
    """Pad the vocabulary on a GPU, for faster products.

    (V, D) -> (V or more, D)
    """
    n_pads = -len(weight) % _row_multiple(weight.device)
    return F.pad(weight, (0, 0, 0, n_pads)) if n_pads else weight


def _row_multiple(device: torch.device) -> int:
    return 1 if device.type == "cpu" else 64


def _slices(n: int, size: int) -> Iterator[slice]:
    """Cut n rows into slices, at least one."""
    return (slice(start, min(start + size, n)) for start in range(0, max(n, 1), size))
