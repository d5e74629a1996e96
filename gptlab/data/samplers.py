"""Samplers of training and validation batches.

B batch.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from torch.utils.data import Sampler

from gptlab.data.protocol import Rows
from gptlab.errors import UserError


def rows_at_once(n_rows: int, *, batch_size: int, world_size: int) -> int:
    """Return the rows of a batch over all devices.

    Raises:
        UserError: there are fewer rows than one batch needs.
    """
    if n_rows < batch_size * world_size:
        devices = f" on {world_size} devices" if world_size > 1 else ""
        raise UserError(
            f"data.batch_size={batch_size}{devices}, but the training split has only {n_rows} rows or "
            f"windows: lower data.batch_size to at most {n_rows // world_size}, give more data, or cut a text into "
            "shorter windows with model.context_length"
        )
    return batch_size * world_size


class TrainSampler(Sampler[np.ndarray]):
    """Training batches of a whole run.

    Each epoch has an order of its own, see `Rows.epoch`, and every row once: where its last rows fill no batch, rows
    of the next epoch complete one, so that all batches are of one size. Batch i is a pure function of
    (seed, i), so a run can resume at any batch. Each batch is divided among the devices: together they see the rows
    that one device would see with a batch `world_size` times as large.

    Args:
        n_batches: of the whole run, over all its epochs.
        epoch_rows: rows of an epoch, the first of its order if there are more.
        start: batches already trained on; the iteration begins after them.
    """

    def __init__(
        self,
        rows: Rows,
        *,
        batch_size: int,
        seed: int,
        n_batches: int,
        epoch_rows: int,
        start: int,
        rank: int,
        world_size: int,
    ) -> None:
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self.n_batches, self.epoch_rows = n_batches, epoch_rows
        self.start, self.rank, self.world_size = start, rank, world_size
        self.rows_at_once = rows_at_once(len(rows), batch_size=batch_size, world_size=world_size)

    def __len__(self) -> int:
        """Return the batches of the whole run.

        A resumed run has the same number: Lightning counts from the start of the run.
        """
        return self.n_batches

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield this device's row numbers, (B,) each."""
        order = lru_cache(maxsize=2)(self._order)
        for number in range(self.start, self.n_batches):
            epoch, place = divmod(number * self.rows_at_once + self.rank * self.batch_size, self.epoch_rows)
            batch = order(epoch)[place : place + self.batch_size]
            missing = self.batch_size - len(batch)
            yield np.concatenate([batch, order(epoch + 1)[:missing]]) if missing else batch

    def _order(self, epoch: int) -> np.ndarray:
        """Return an epoch's row numbers in the order of training.   -> (N,)

        The first ones complete the previous epoch's last batch. They are taken from the end of the epoch's order: from
        its beginning, they would shift the batches that `Rows.epoch` made of similar lengths.
        """
        order = self.rows.epoch(np.random.default_rng([self.seed, epoch]), self.rows_at_once)[: self.epoch_rows]
        n_missing = -epoch * self.epoch_rows % self.rows_at_once  # of that batch
        return np.roll(order, n_missing)


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
