"""Attention masks and token positions.

B batch, T new tokens, P past tokens, S = P + T visible tokens.
"""

import torch
from torch import Tensor


def causal_mask(
    n_new: int, n_past: int, *, sliding_window: int | None, segments: Tensor | None, device: torch.device
) -> Tensor | None:
    """Return a mask that is True where a query may look.

    A query sees neither the future, nor another document, nor tokens before its sliding window. The mask is (T, S) or,
    with segments, (B, 1, T, S); None if causality alone decides, since the kernels need no mask for that.

    Args:
        sliding_window: how many tokens a token sees, itself included (Mistral, arXiv 2310.06825); None is all of them.
        segments: (B, T), the document each token belongs to; only without a past.
    """
    within = sliding_window is None or n_past + n_new <= sliding_window
    if within and segments is None and (n_past == 0 or n_new == 1):
        return None
    query = torch.arange(n_past, n_past + n_new, device=device)[:, None]  # (T, 1)
    key = torch.arange(n_past + n_new, device=device)  # (S,)
    mask = key <= query  # (T, S)
    if sliding_window is not None:
        mask &= key > query - sliding_window
    if segments is not None:
        mask = mask & (segments[:, :, None] == segments[:, None, :])[:, None]  # (B, 1, T, T)
    return mask


def document_lengths(segments: Tensor, *, sliding_window: int | None) -> list[list[int]] | None:
    """Return the number of tokens in each document of each row.

    (B, T) -> B lists

    With them attention runs within each document separately. None where a mask is better: if a document is longer than
    the sliding window, and on a GPU, where reading the lengths would block.
    """
    if segments.device.type != "cpu" or torch.compiler.is_compiling():
        return None
    lengths: list[list[int]] = [row.unique_consecutive(return_counts=True)[1].tolist() for row in segments]
    longest = max((max(row) for row in lengths), default=0)
    return lengths if sliding_window is None or longest <= sliding_window else None


def token_positions(n_new: int, n_past: int, *, segments: Tensor | None, device: torch.device) -> Tensor:
    """Return each token's position in its document.

    (T,), counting on from the past tokens; with segments (B, T), counting from the first token of each document.
    """
    index = torch.arange(n_past, n_past + n_new, device=device)
    if segments is None:
        return index
    starts = torch.ones_like(segments, dtype=torch.bool)
    starts[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return index - torch.where(starts, index, 0).cummax(dim=1).values
