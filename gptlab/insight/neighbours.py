"""Tokens whose embeddings are alike.

N tokens, V vocabulary, D embedding, K neighbours.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gptlab.insight.attention import evaluation_mode
from gptlab.model.gpt import GPT

CHUNK_ROWS = 16_384  # rows of the embedding that are compared at once


class Neighbours(NamedTuple):
    """The nearest tokens of N tokens, the nearest first."""

    ids: Tensor  # (N, K) int64
    cosines: Tensor  # (N, K)


def nearest_tokens(model: GPT, ids: Sequence[int], *, n: int) -> Neighbours:
    """Return the tokens whose embeddings have the greatest cosine with each given one's.

    The token itself is left out. The table may be stored in any format.

    Args:
        n: K, at most V - 1.
    """
    device, V = model.tok_emb.weight.device, model.vocab_size
    with evaluation_mode(model):
        own_ids = torch.tensor(ids, device=device)
        own = _unit(model.tok_emb(own_ids))  # (N, D)
        cosines = torch.cat(
            [
                own @ _unit(model.tok_emb(torch.arange(start, min(start + CHUNK_ROWS, V), device=device))).T
                for start in range(0, V, CHUNK_ROWS)
            ],
            dim=1,
        )  # (N, V)
        cosines[torch.arange(len(ids), device=device), own_ids] = -2.0
        best, best_ids = cosines.topk(min(n, V - 1))
    return Neighbours(best_ids.cpu(), best.clamp(-1.0, 1.0).cpu())


def _unit(rows: Tensor) -> Tensor:
    """Return rows of length 1; a row of zeros stays one.   (N, D) -> (N, D)"""
    return torch.nn.functional.normalize(rows.float(), dim=-1)
