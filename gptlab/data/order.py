"""In which order a run sees its windows.   B batch."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


def batches_per_epoch(n_windows: int, *, batch_size: int, world_size: int) -> int:
    """Batches in which each of `world_size` devices sees its share of all windows once; what is over is dropped.

    Raises:
        ValueError: there are fewer windows than one batch needs.
    """
    rows = batch_size * world_size
    if n_windows < rows:
        devices = f" on {world_size} devices" if world_size > 1 else ""
        raise ValueError(
            f"data.batch_size={batch_size}{devices}, but the training text has only {n_windows} windows; lower "
            f"data.batch_size to at most {n_windows // world_size}, shorten model.context_length, or give more text."
        )
    return n_windows // rows


class TrainOrder(Sampler[np.ndarray]):
    """Training, from the run's first batch to its last: every window once an epoch, each epoch in an order of its own.

    Batch i is a pure function of (seed, i), so a run goes on wherever it was stopped. Devices share out each batch: the
    rows of all of them together are those that one device with a batch `world_size` times as large would see.

    Args:
        n_batches: of the whole run, over all its epochs.
        start: batches that are behind it; the iteration begins after them.
    """

    def __init__(
        self, n_windows: int, *, batch_size: int, seed: int, n_batches: int, start: int, rank: int, world_size: int
    ) -> None:
        self.n_windows, self.batch_size, self.seed = n_windows, batch_size, seed
        self.n_batches, self.start, self.rank, self.world_size = n_batches, start, rank, world_size
        self.per_epoch = batches_per_epoch(n_windows, batch_size=batch_size, world_size=world_size)

    def __len__(self) -> int:
        """Batches of the whole run, also of one that goes on: a trainer counts from the run's beginning."""
        return self.n_batches

    def __iter__(self) -> Iterator[np.ndarray]:
        """Index arrays (B,), this device's."""
        order, drawn = np.empty(0, int), -1
        for number in range(self.start, self.n_batches):
            epoch, place = divmod(number, self.per_epoch)
            if epoch != drawn:
                order, drawn = np.random.default_rng([self.seed, epoch]).permutation(self.n_windows), epoch
            first = (place * self.world_size + self.rank) * self.batch_size
            yield order[first : first + self.batch_size]


class FileOrder(Sampler[np.ndarray]):
    """Validation: every window once, as it stands in the text; devices take turns, and the last batch may be smaller.

    Raises:
        ValueError: there are fewer windows than devices.
    """

    def __init__(self, n_windows: int, *, batch_size: int, rank: int, world_size: int) -> None:
        if n_windows < world_size:
            raise ValueError(
                f"the validation text has {n_windows} windows, too few for {world_size} devices: hold out more with "
                "data.val_fraction, or lower trainer.devices"
            )
        self.windows, self.batch_size = np.arange(rank, n_windows, world_size), batch_size

    def __len__(self) -> int:
        """Batches of this device."""
        return -(-len(self.windows) // self.batch_size)

    def __iter__(self) -> Iterator[np.ndarray]:
        """len(self) index arrays (B,), the last with what is left."""
        return (self.windows[i : i + self.batch_size] for i in range(0, len(self.windows), self.batch_size))
