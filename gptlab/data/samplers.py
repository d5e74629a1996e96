"""In which order a run sees its rows.   B batch."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from gptlab.data.protocol import Rows
from gptlab.errors import UserError


def batches_per_epoch(n_rows: int, *, batch_size: int, world_size: int) -> int:
    """Batches in which each of `world_size` devices sees its share of all rows once; what is over is dropped.

    Raises:
        UserError: there are fewer rows than one batch needs.
    """
    at_once = batch_size * world_size
    if n_rows < at_once:
        devices = f" on {world_size} devices" if world_size > 1 else ""
        raise UserError(
            f"data.batch_size={batch_size}{devices}, but the training split has only {n_rows} rows or "
            f"windows; lower data.batch_size to at most {n_rows // world_size}, give more data, or cut a text into "
            "shorter windows with model.context_length."
        )
    return n_rows // at_once


class TrainSampler(Sampler[np.ndarray]):
    """Training, from the run's first batch to its last; each epoch has an order of its own, see `Rows.epoch`.

    Batch i is a pure function of (seed, i), so a run goes on wherever it was stopped. Devices share out each batch: the
    rows of all of them together are those that one device with a batch `world_size` times as large would see.

    Args:
        n_batches: of the whole run, over all its epochs.
        start: batches that are behind it; the iteration begins after them.
    """

    def __init__(
        self, rows: Rows, *, batch_size: int, seed: int, n_batches: int, start: int, rank: int, world_size: int
    ) -> None:
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self.n_batches, self.start, self.rank, self.world_size = n_batches, start, rank, world_size
        self.per_epoch = batches_per_epoch(len(rows), batch_size=batch_size, world_size=world_size)

    def __len__(self) -> int:
        """Batches of the whole run, also of one that goes on: a trainer counts from the run's beginning."""
        return self.n_batches

    def __iter__(self) -> Iterator[np.ndarray]:
        """Index arrays (B,), this device's."""
        order, drawn = np.empty(0, int), -1
        for number in range(self.start, self.n_batches):
            epoch, place = divmod(number, self.per_epoch)
            if epoch != drawn:
                chance = np.random.default_rng([self.seed, epoch])
                order, drawn = self.rows.epoch(chance, self.batch_size * self.world_size), epoch
            first = (place * self.world_size + self.rank) * self.batch_size
            yield order[first : first + self.batch_size]


class ValSampler(Sampler[np.ndarray]):
    """Validation: every row once; devices take turns, and the last batch may be smaller.

    Raises:
        UserError: there are fewer rows than devices.
    """

    def __init__(self, rows: Rows, *, batch_size: int, rank: int, world_size: int) -> None:
        if len(rows) < world_size:
            raise UserError(
                f"the validation split has {len(rows)} rows or windows, too few for {world_size} devices: hold "
                "out more with data.val_fraction, or lower trainer.devices"
            )
        self.numbers, self.batch_size = rows.reading_order()[rank::world_size], batch_size

    def __len__(self) -> int:
        """Batches of this device."""
        return -(-len(self.numbers) // self.batch_size)

    def __iter__(self) -> Iterator[np.ndarray]:
        """len(self) index arrays (B,), the last with what is left."""
        return (self.numbers[i : i + self.batch_size] for i in range(0, len(self.numbers), self.batch_size))
