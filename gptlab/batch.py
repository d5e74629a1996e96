"""The contract between data and everything else.

B batch, T tokens, N pairs.
"""

from typing import TypedDict

import torch
from torch import Tensor

IGNORE_INDEX = -100  # targets with this id are not scored


class Batch(TypedDict, total=False):
    """The tensors of one micro-batch.

    The data lists the keys that it provides in `gives`, a head those that it reads in `needs`.
    """

    ids: Tensor  # (B, T) int64, the model's input
    targets: Tensor  # (B, T) int64, the next id at each position, or IGNORE_INDEX
    segments: Tensor  # (B, T) int64, packed rows: the document of each token; attention stays within it
    lengths: Tensor  # (B,) int64, tokens of each row without padding
    labels: Tensor  # (B,) int64, the class of each row
    # Preference pairs have ids and targets (2N, T), N chosen rows stacked over the N rejected ones. "pairs" is not
    # a key of the batch. It appears in `gives` and `needs`, so that an LM head cannot train on rejected answers.


def whole_rows(ids: Tensor) -> Batch:
    """Return ids without padding as what every head can predict from.   (B, T) -> Batch"""
    return Batch(ids=ids, lengths=torch.full((len(ids),), ids.size(1), device=ids.device))


def on_device(batch: Batch, device: torch.device) -> Batch:
    """Return the batch, moved to a device."""
    return Batch(**{key: value.to(device) for key, value in batch.items()})  # type: ignore[typeddict-item, attr-defined]
