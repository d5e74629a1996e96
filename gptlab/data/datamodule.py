"""Prepared data as Lightning takes it."""

from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader, Sampler

from gptlab.batch import Batch
from gptlab.data.protocol import Prepared, Rows
from gptlab.data.samplers import TrainSampler, ValSampler
from gptlab.errors import UserError

CHANGED = {  # what must be as it was for a run to go on, and what to say where it is not
    "seed": "seed",
    "batch_size": "data.batch_size",
    "world_size": "the number of devices",
    "fingerprint": "the data, its tokens or its rows (data, tokenizer, prompt, model.context_length)",
}


def batches_processed(trainer: L.Trainer) -> int:
    """Return the number of training batches processed so far.

    Relies on Lightning's `fit_loop.epoch_loop.batch_progress.total.processed`; at the end of a step `completed` still
    lags behind.
    """
    return trainer.fit_loop.epoch_loop.batch_progress.total.processed  # type: ignore[attr-defined]


class RunDataModule(L.LightningDataModule):
    """Batches: training from the first batch of the run to its last, validation every row once.

    To Lightning a run is one epoch, however often it goes through its data. So the end of an epoch is nothing special,
    neither to a step that gathers several batches nor to a run that goes on from there.

    Args:
        batch_size: rows at a time; a step may take several batches.
        n_batches: what each device goes through in the whole run.
    """

    def __init__(self, data: Prepared, *, batch_size: int, seed: int, n_batches: int, world_size: int) -> None:
        super().__init__()
        self.data, self.n_batches, self.start = data, n_batches, 0
        self.what: dict[str, Any] = {
            "seed": seed,
            "batch_size": batch_size,
            "world_size": world_size,
            "fingerprint": data.fingerprint,
        }

    def train_dataloader(self) -> DataLoader[Batch]:
        """Whole batches of training rows, all that are still to come."""
        what = {name: self.what[name] for name in ("batch_size", "seed", "world_size")}
        order = TrainSampler(self.data.train, **what, n_batches=self.n_batches, start=self.start, rank=self._rank)
        return self._loader(self.data.train, order)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Every validation row; the last batch may be smaller."""
        what = {name: self.what[name] for name in ("batch_size", "world_size")}
        return self._loader(self.data.val, ValSampler(self.data.val, **what, rank=self._rank))

    def state_dict(self) -> dict[str, Any]:
        """How far the run is, and in what."""
        assert self.trainer is not None
        return {
            "batches": batches_processed(self.trainer),
            **self.what,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from there.

        Raises:
            UserError: something that decides which rows come next is no longer what it was.
        """
        for name, words in CHANGED.items():
            if state_dict.get(name) != self.what[name]:
                before = f"{state_dict.get(name)!r:.100}"
                raise UserError(
                    f"{words} has changed since the checkpoint: it was {before} and is {self.what[name]}; "
                    "resume with what the run began with, or start a new run"
                )
        self.start = min(max(0, int(state_dict["batches"])), self.n_batches)

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    def _loader(self, rows: Rows, order: Sampler) -> DataLoader[Batch]:
        return DataLoader(
            rows,  # type: ignore[arg-type]  # all that it asks of a Dataset
            sampler=order,
            batch_size=None,  # an index is a batch already
            collate_fn=_as_it_is,  # of tensors: to look for what else it may be costs a part of each step
            num_workers=self.data.n_workers,
            persistent_workers=self.data.n_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )


def _as_it_is(batch: Any) -> Any:
    return batch
