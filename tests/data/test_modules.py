"""Prepared text as Lightning takes it."""

from pathlib import Path

import lightning as L
import pytest
import torch
from torch import Tensor

from gptlab.batch import IGNORE_INDEX, Batch
from gptlab.data.modules import TextDataModule
from gptlab.data.text import PreparedText
from tests.data.standins import ByteTokenizer, text_data


def prepared(tmp_path: Path, **changes: object) -> PreparedText:
    path = tmp_path / "a.txt"
    path.write_text("".join(chr(33 + place % 90) for place in range(500)))
    return text_data(path, tmp_path, **changes).prepare(ByteTokenizer(eot=True), context_length=8)


class Recorder(L.LightningModule):
    """Learns nothing and remembers what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.epochs: list[list[Tensor]] = []

    def on_train_epoch_start(self) -> None:
        self.epochs.append([])

    def training_step(self, batch: Batch) -> Tensor:
        self.epochs[-1].append(batch["ids"].clone())
        return self.weight * batch["targets"].sum()

    def validation_step(self, batch: Batch) -> None:
        """Not asked for."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")  # none are wanted
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # lightning 2.6 on torch 2.13
def test_a_trainer_draws_a_new_order_each_epoch(tmp_path: Path) -> None:
    recorder, data = Recorder(), TextDataModule(prepared(tmp_path, batch_size=5), seed=1)
    trainer = L.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        limit_val_batches=0,
    )
    trainer.fit(recorder, datamodule=data)
    first, second = (torch.cat(epoch) for epoch in recorder.epochs)
    assert len(first) == len(second) == 55  # of 56 windows: the incomplete batch is dropped
    assert not torch.equal(first, second)
    data.train_order.set_epoch(0)
    assert torch.equal(first, torch.cat([batch["ids"] for batch in data.train_dataloader()]))


@pytest.mark.parametrize("n_workers", [0, 2])
def test_validation_is_the_held_out_text_in_order(tmp_path: Path, n_workers: int) -> None:
    data = TextDataModule(prepared(tmp_path, batch_size=3, n_workers=n_workers), seed=1)
    batches = list(data.val_dataloader())
    assert [len(batch["ids"]) for batch in batches] == [3, 3, 1]
    targets = torch.cat([batch["targets"].flatten() for batch in batches])
    text = (tmp_path / "a.txt").read_bytes()
    assert bytes(targets[targets != IGNORE_INDEX].tolist()) == text[451:]


def test_workers_give_the_batches_of_the_run_itself(tmp_path: Path) -> None:
    own, workers = (TextDataModule(prepared(tmp_path, n_workers=n), seed=3).train_dataloader() for n in (0, 2))
    for one, other in zip(own, workers, strict=True):
        assert torch.equal(one["ids"], other["ids"])
        assert torch.equal(one["targets"], other["targets"])


def test_too_few_windows_for_a_batch(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.batch_size=99, but the training text has only 56 windows"):
        TextDataModule(prepared(tmp_path, batch_size=99), seed=1)
