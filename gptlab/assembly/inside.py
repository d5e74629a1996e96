"""What a run's model does inside: the methods `run.attention` and `run.lens`.

B batch, T tokens, L layers, H query heads, V vocabulary, C classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from gptlab.assembly.parts import RunParts
from gptlab.insight.attention import attention_weights
from gptlab.insight.lens import logit_lens
from gptlab.tokenizer.text import prepend_bos

Ids = Tensor | Sequence[int] | str  # (B, T); or one row, as a list of ids or a text


def attention(self: RunParts, ids: Ids, *, layers: Sequence[int] | None = None) -> Tensor:
    """Return where each token looks, in each head; rows sum to 1.

    (B, T) -> (L, B, H, T, T) float32: [layer, row, head, the token that looks, the token it looks at]

    Args:
        ids: (B, T); or one row as a list of ids, or as a text, which begins as the tokenizer begins every text.
        layers: numbers of the layers, from 0 on, negative ones from the last; None is all of them.

    Raises:
        UserError: the model has no such layer, or reads fewer tokens.
    """
    return attention_weights(self.model, _rows(self, ids), layers=layers)


def lens(self: RunParts, ids: Ids) -> Tensor:
    """Return what the head makes of the embeddings and of each layer; the last equals `run.logits(ids)`.

    (B, T) -> (L + 1, B, T, V) logits, and for a classifier (L + 1, B, C)

    Args:
        ids: as for `attention`.

    Raises:
        UserError: the model reads fewer tokens.
    """
    return logit_lens(self.model, self.head, _rows(self, ids))


def _rows(run: RunParts, ids: Ids) -> Tensor:
    """Return ids as rows on the model's device.   -> (B, T)"""
    if isinstance(ids, str):
        ids = prepend_bos(run.tokenizer, run.tokenizer.encode(ids))
    rows = torch.as_tensor(ids, device=run.model.tok_emb.weight.device)
    return rows[None] if rows.ndim == 1 else rows
