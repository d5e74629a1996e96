"""Lightning's data module of a run."""

import logging
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from gptlab.batch import IGNORE_INDEX, Batch
from gptlab.data.lightning_internals import batches_processed
from gptlab.data.protocol import Prepared, Rows
from gptlab.data.samplers import TrainSampler, ValSampler
from gptlab.errors import UserError

IDENTITY_NAMES = {  # values that may not change when a run resumes -> their names in messages
    "seed": "seed",
    "batch_size": "data.batch_size",
    "world_size": "the number of devices",
    "fingerprint": "the data, its tokens or its rows (data, tokenizer, prompt, model.context_length)",
}

# Each of 100 tokens is a hundredth of the mean loss; an accuracy over 30 rows or pairs has a standard error up to 0.09.
MIN_TOKENS, MIN_ROWS = 100, 30

log = logging.getLogger(__name__)


class RunDataModule(L.LightningDataModule):
    """Loaders of a run's training and validation batches.

    To Lightning the whole run is one epoch, however often it reads the data. So gradient accumulation and resuming need
    no special case at the end of an epoch.

    Args:
        batch_size: rows of a micro-batch on each device.
        n_batches: micro-batches of each device in the whole run.
        epoch_rows: rows of an epoch, the first of its order if there are more.
    """

    def __init__(
        self, data: Prepared, *, batch_size: int, seed: int, n_batches: int, epoch_rows: int, world_size: int
    ) -> None:
        super().__init__()
        if few := few_scored(data.val):
            log.warning(few)
        self.data, self.n_batches, self.epoch_rows, self.start = data, n_batches, epoch_rows, 0
        self.identity: dict[str, Any] = {
            "seed": seed,
            "batch_size": batch_size,
            "world_size": world_size,
            "fingerprint": data.fingerprint,
        }

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of the remaining training batches."""
        shape = {name: self.identity[name] for name in ("batch_size", "seed", "world_size")}
        length = {"n_batches": self.n_batches, "epoch_rows": self.epoch_rows, "start": self.start}
        sampler = TrainSampler(self.data.train, **shape, **length, rank=self._rank)
        return self._loader(self.data.train, sampler)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of the validation batches.

        The last batch may be smaller.
        """
        shape = {name: self.identity[name] for name in ("batch_size", "world_size")}
        return self._loader(self.data.val, ValSampler(self.data.val, **shape, rank=self._rank))

    def state_dict(self) -> dict[str, Any]:
        """Return the run's progress and identity."""
        assert self.trainer is not None
        return {"batches": batches_processed(self.trainer), **self.identity}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume after the batches of a checkpoint.

        Raises:
            UserError: a value that decides the order of the rows has changed.
        """
        for name, words in IDENTITY_NAMES.items():
            if state_dict.get(name) != self.identity[name]:
                before = f"{state_dict.get(name)!r:.100}"
                raise UserError(
                    f"{words} has changed since the checkpoint: it was {before} and is {self.identity[name]}; "
                    "resume with the original value, or start a new run"
                )
        self.start = min(max(0, int(state_dict["batches"])), self.n_batches)

    @property
    def epochs(self) -> float:
        """Return how often the training rows have been read."""
        assert self.trainer is not None
        rows = batches_processed(self.trainer) * self.identity["batch_size"] * self.identity["world_size"]
        return rows / self.epoch_rows

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    def _loader(self, rows: Rows, sampler: Sampler) -> DataLoader[Batch]:
        return DataLoader(
            rows,  # type: ignore[arg-type]  # it has the methods that a loader calls
            sampler=sampler,
            batch_size=None,  # the sampler yields whole batches
            collate_fn=_identity,  # the default would search each batch for other types
            num_workers=self.data.n_workers,
            persistent_workers=self.data.n_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )


def few_scored(val: Rows) -> str | None:
    """Return a warning if the validation set is too small, else None."""
    first = val[np.arange(1)]
    if "targets" in first and len(first["ids"]) == 1:
        n, enough, unit = _count_targets(val, MIN_TOKENS), MIN_TOKENS, "token"
    else:  # classes, or pairs of answers
        n, enough, unit = len(val), MIN_ROWS, "row" if len(first["ids"]) == 1 else "pair"
    if n >= enough:
        return None
    return (
        f"the validation set scores {n:,} {unit}{'s' * (n != 1)}: with fewer than {enough} it is mostly chance which "
        "weights are best, so hold out more, for example with data.val_fraction"
    )


def _count_targets(rows: Rows, enough: int) -> int:
    """Return how many tokens are scored, or some number from `enough` on."""
    n = 0
    for number in range(len(rows)):
        n += int((rows[np.array([number])]["targets"] != IGNORE_INDEX).sum())
        if n >= enough:
            break
    return n


def _identity(batch: Any) -> Any:
    return batch
