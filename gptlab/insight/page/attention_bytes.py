"""Attention weights as text that a page can hold.

T tokens, H heads.
"""

import zlib
from base64 import b64encode
from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

STEPS = 255  # a byte is 255 times the square root of a weight: weights of 1 % keep their size within a tenth


def pack_weights(weights: Tensor) -> str:
    """Return a layer's weights as base64 of deflated bytes.

    (H, T, T) -> for each head the rows up to the diagonal, T (T + 1) / 2 bytes before compression
    """
    rounded = np.rint(np.sqrt(weights.numpy()) * STEPS).astype(np.uint8)
    query, key = np.tril_indices(weights.size(-1))
    return b64encode(zlib.compress(rounded[:, query, key].tobytes(), 9)).decode()


def choose_layers(packed: Mapping[int, str], room: int) -> Sequence[int]:
    """Return the layers whose weights fit into so many bytes together, evenly spaced where not all do.

    The first and the last are among them if there are two or more.
    """
    layers = sorted(packed)
    for n in range(len(layers), 0, -1):
        chosen = [layers[i * (len(layers) - 1) // max(1, n - 1)] for i in range(n)]
        if sum(len(packed[layer]) for layer in chosen) <= room:
            return chosen
    return []
