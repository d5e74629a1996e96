"""The one contract between data and the rest.   B batch, T tokens, N pairs."""

from typing import TypedDict

import torch
from torch import Tensor

IGNORE_INDEX = -100  # a target with this id is not scored


class Batch(TypedDict, total=False):
    """What one step sees; a DataModule says which keys it gives, a head which it needs."""

    ids: Tensor  # (B, T) int64, what the model reads
    targets: Tensor  # (B, T) int64, the id that should follow each one, or IGNORE_INDEX
    segments: Tensor  # (B, T) int64, packed rows: the example each token belongs to, whose borders nothing crosses
    lengths: Tensor  # (B,) int64, tokens of each row before its padding
    labels: Tensor  # (B,) int64, the class of each row
    # pairs: N chosen rows stacked over the N rejected ones, ids and targets (2N, T); no key of their own, but what data
    # gives and heads need has this name, for to read such a batch as text would be to learn what was rejected


def on_device(batch: Batch, device: torch.device) -> Batch:
    """The batch where the model is."""
    return Batch(**{key: value.to(device) for key, value in batch.items()})  # type: ignore[typeddict-item, attr-defined]
