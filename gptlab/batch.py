"""The one contract between data and the rest.   B batch, T tokens."""

from typing import TypedDict

from torch import Tensor

IGNORE_INDEX = -100  # a target with this id is not scored


class Batch(TypedDict, total=False):
    """What one step sees; a DataModule says which keys it gives, a head which it needs."""

    ids: Tensor  # (B, T) int64, what the model reads
    targets: Tensor  # (B, T) int64, the id that should follow each one, or IGNORE_INDEX
