"""The key/value cache.

It keeps the keys and values of tokens already read, so that a new token costs one step of the model.

B batch, T new tokens, S tokens in all, C capacity, G key/value heads, K head size.
"""

from collections.abc import Iterator

from torch import Tensor


class LayerCache:
    """One layer's keys and values, in buffers of fixed size.

    Args:
        capacity: C, the most tokens it can hold.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.length = 0  # tokens in the buffers
        self.keys: Tensor | None = None  # (B, G, C, K), allocated at the first append, in its dtype
        self.values: Tensor | None = None

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append keys and values and return all cached ones, the new last.

        2 x (B, G, T, K) -> 2 x (B, G, S, K), views of the buffers.
        """
        B, G, T, K = k.shape
        if self.keys is None or self.values is None:
            self.keys, self.values = (x.new_empty(B, G, self.capacity, K) for x in (k, v))
        assert self.keys.size(0) == B, f"{B} rows for a cache made for {self.keys.size(0)} rows"
        start, self.length = self.length, self.length + T
        assert self.length <= self.capacity, f"{self.length} tokens in a cache of {self.capacity}"
        self.keys[:, :, start : self.length] = k
        self.values[:, :, start : self.length] = v
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]


class KVCache:
    """A `LayerCache` for every block of a model.

    Args:
        n_layers: blocks of the model.
        capacity: C, the most tokens it can hold, at most the model's context_length.
    """

    def __init__(self, *, n_layers: int, capacity: int) -> None:
        self.layers = [LayerCache(capacity) for _ in range(n_layers)]

    @property
    def length(self) -> int:
        """Return the number of tokens read so far."""
        return self.layers[0].length

    def clear(self) -> None:
        """Forget every token, but keep the buffers."""
        for layer in self.layers:
            layer.length = 0

    def __iter__(self) -> Iterator[LayerCache]:
        return iter(self.layers)
