"""Which tokens a token may look at, and where it stands.   B batch, T new tokens, P past tokens, S = P + T."""

import torch
from torch import Tensor


def causal_mask(
    n_new: int, n_past: int, *, sliding_window: int | None, segments: Tensor | None, device: torch.device
) -> Tensor | None:
    """True where a query may look: not ahead, not over a document's border, not further back than the window.

    (T, S) or, with segments, (B, 1, T, S). None where plain causality says it all, so that the kernels need no mask.

    Args:
        window: how many tokens a token sees, itself included (arXiv 2310.06825); None is all of them.
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
    """Tokens of each row's documents, one after the other; each may then be attended to by itself.   (B, T)

    None where a mask does better: a document is longer than the window, or on a GPU, which reading them would hold up.
    """
    if segments.device.type != "cpu" or torch.compiler.is_compiling():
        return None
    lengths: list[list[int]] = [row.unique_consecutive(return_counts=True)[1].tolist() for row in segments]
    longest = max((max(row) for row in lengths), default=0)
    return lengths if sliding_window is None or longest <= sliding_window else None


def token_positions(n_new: int, n_past: int, *, segments: Tensor | None, device: torch.device) -> Tensor:
    """Where each token stands in its document: (T,), or (B, T) counted from each segment's first token."""
    index = torch.arange(n_past, n_past + n_new, device=device)
    if segments is None:
        return index
    starts = torch.ones_like(segments, dtype=torch.bool)
    starts[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return index - torch.where(starts, index, 0).cummax(dim=1).values
