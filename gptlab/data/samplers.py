"""Samplers of training and validation batches.

B batch.
"""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from gptlab.data.protocol import Rows
from gptlab.errors import UserError


def batches_per_epoch(n_rows: int, *, batch_size: int, world_size: int) -> int:
    """Return each device's batches per epoch.

    The last rows, too few for a batch on every device, are dropped.

    Raises:
        UserError: there are fewer rows than one batch needs.
    """
    rows_at_once = batch_size * world_size
    if n_rows < rows_at_once:
        devices = f" on {world_size} devices" if world_size > 1 else ""
        raise UserError(
            f"data.batch_size={batch_size}{devices}, but the training split has only {n_rows} rows or "
            f"windows: lower data.batch_size to at most {n_rows // world_size}, give more data, or cut a text into "
            "shorter windows with model.context_length"
        )
    return n_rows // rows_at_once


class TrainSampler(Sampler[np.ndarray]):
    """Training batches of a whole run.

    Each epoch has an order of its own, see `Rows.epoch`. Batch i is a pure function of (seed, i), so a run can resume
    at any batch. Each batch is divided among the devices: together they see the rows that one device would see with a
    batch `world_size` times as large.

    Args:
        n_batches: of the whole run, over all its epochs.
        start: batches already trained on; the iteration begins after them.
    """

    def __init__(
        self, rows: Rows, *, batch_size: int, seed: int, n_batches: int, start: int, rank: int, world_size: int
    ) -> None:
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self.n_batches, self.start, self.rank, self.world_size = n_batches, start, rank, world_size
        self.per_epoch = batches_per_epoch(len(rows), batch_size=batch_size, world_size=world_size)

    def __len__(self) -> int:
        """Return the batches of the whole run.

        A resumed run has the same number: Lightning counts from the start of the run.
        """
        return self.n_batches

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield this device's row numbers, (B,) each."""
        order, epoch_of_order = np.empty(0, int), -1
        for number in range(self.start, self.n_batches):
            epoch, place = divmod(number, self.per_epoch)
            if epoch != epoch_of_order:
                generator = np.random.default_rng([self.seed, epoch])
                order, epoch_of_order = self.rows.epoch(generator, self.batch_size * self.world_size), epoch
            first = (place * self.world_size + self.rank) * self.batch_size
            yield order[first : first + self.batch_size]


class ValSampler(Sampler[np.ndarray]):
    """Validation batches, every row once.

    Rows go to the devices in turn; the last batch may be smaller.

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
        """Return the batches of this device."""
        return -(-len(self.numbers) // self.batch_size)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield this device's row numbers, (B,) each.

        The last batch may be smaller.
        """
        return (self.numbers[i : i + self.batch_size] for i in range(0, len(self.numbers), self.batch_size))
