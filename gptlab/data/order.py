"""In which order a run sees its windows.   B batch."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class BatchOrder(Sampler[np.ndarray]):
    """Training: every window once an epoch in an order drawn from (seed, epoch); an incomplete last batch is dropped.

    The batch of a step is a pure function of (seed, epoch, step), so a run can go on in the middle of an epoch.

    Raises:
        ValueError: there are fewer windows than one batch needs.
    """

    def __init__(self, n_windows: int, *, batch_size: int, seed: int) -> None:
        if n_windows < batch_size:
            raise ValueError(
                f"data.batch_size={batch_size}, but the training text has only {n_windows} windows; "
                f"lower data.batch_size to at most {n_windows}, shorten model.context_length, or give more text."
            )
        self.n_windows, self.batch_size, self.seed, self.epoch = n_windows, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Which epoch the next iteration goes through; Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self.n_windows // self.batch_size

    def __iter__(self) -> Iterator[np.ndarray]:
        """len(self) index arrays (B,)."""
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.n_windows)
        return iter(order[: len(self) * self.batch_size].reshape(-1, self.batch_size))


class FileOrder(Sampler[np.ndarray]):
    """Validation: every window once, as it stands in the text; the last batch may be smaller."""

    def __init__(self, n_windows: int, *, batch_size: int) -> None:
        self.n_windows, self.batch_size = n_windows, batch_size

    def __len__(self) -> int:
        """Batches in all."""
        return -(-self.n_windows // self.batch_size)

    def __iter__(self) -> Iterator[np.ndarray]:
        """len(self) index arrays (B,), the last with what is left."""
        starts = range(0, self.n_windows, self.batch_size)
        return (np.arange(start, min(start + self.batch_size, self.n_windows)) for start in starts)
