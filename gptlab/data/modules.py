"""Prepared data as Lightning takes it."""

import lightning as L
import torch
from torch.utils.data import DataLoader, Sampler

from gptlab.batch import Batch
from gptlab.data.order import BatchOrder, FileOrder
from gptlab.data.text import PreparedText
from gptlab.data.windows import Windows


class TextDataModule(L.LightningDataModule):
    """Batches of text: training in an order drawn anew for each epoch, validation as the text stands.

    Raises:
        ValueError: the training text has fewer windows than a batch.
    """

    def __init__(self, data: PreparedText, *, seed: int) -> None:
        super().__init__()
        self.data = data
        self.train_order = BatchOrder(len(data.train), batch_size=data.batch_size, seed=seed)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Whole batches of training windows."""
        return self._loader(self.data.train, self.train_order)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Every validation window; the last batch may be smaller."""
        return self._loader(self.data.val, FileOrder(len(self.data.val), batch_size=self.data.batch_size))

    def _loader(self, windows: Windows, order: Sampler) -> DataLoader[Batch]:
        return DataLoader(
            windows,
            sampler=order,
            batch_size=None,  # an index is a batch already
            num_workers=self.data.n_workers,
            persistent_workers=self.data.n_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )
