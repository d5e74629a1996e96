"""A training step is the same however it is divided into micro-batches."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from gptlab.batch import IGNORE_INDEX, Batch
from gptlab.heads.lm import LMHead
from gptlab.heads.protocol import HeadContext
from gptlab.training.callbacks.validation import FinalValidation
from gptlab.training.checkpoint import CheckpointFiles
from gptlab.training.module import GPTModule
from gptlab.training.optimizers import adamw
from gptlab.training.planning.settings import make_plan
from gptlab.training.schedules import constant
from gptlab.training.trainer import TrainerParts, build_trainer
from tests.support.tiny_models import tiny_gpt
from tests.training.test_trainer import trainer_settings


def ragged(n_rows: int) -> list[Batch]:
    """Return rows with more and more scored tokens, one row a batch."""
    ids = torch.randint(50, (n_rows, 12), generator=torch.Generator().manual_seed(3))
    targets = ids.roll(-1, dims=1)
    for row in range(n_rows):
        targets[row, : 11 - row % 11] = IGNORE_INDEX
    return [Batch(ids=ids[row], targets=targets[row]) for row in range(n_rows)]


class Watch(L.Callback):
    """Record the losses of steps and the validated steps."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.validated: list[int] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        if not pl_module.accumulated:
            self.losses.append(float(pl_module.step_loss))

    def on_validation_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.validated.append(trainer.global_step)


def trained(
    batch_size: int,
    accumulate: int,
    *,
    rows: list[Batch] | None = None,
    watch: Watch | None = None,
    callbacks: Sequence[L.Callback] = (),
    **changes: Any,
) -> tuple[GPTModule, Watch]:
    """Train a tiny model in float64 on the same 22 rows, in order."""
    model = tiny_gpt().train()
    head = LMHead(model, HeadContext(vocab_size=50, token_bytes=None), tied=True, loss_chunk_rows=7)
    optimizer = partial(adamw, lr=0.01, betas=[0.9, 0.95], eps=1e-8, weight_decay=0.1, decay="matrices", fused=True)
    schedule = partial(constant, total_steps=99, warmup_steps=0, start_factor=0.0)
    module = GPTModule(model=model, head=head, optimizer=optimizer, schedule=schedule)
    loader = DataLoader(rows or ragged(22), batch_size=batch_size)
    settings = trainer_settings(
        **{"precision": "64-true", "max_steps": None, "max_epochs": 2, "val_check_interval": None}
        | {"gradient_clip_val": 0.5, "log_every_n_steps": 1, "enable_model_summary": False}
        | changes
    )
    sizes = {"n_rows": len(loader), "rows_at_once": 1, "val_batches": 2}
    plan = make_plan(settings, **sizes, accumulate_grad_batches=accumulate)
    watch = watch or Watch()
    parts = TrainerParts([watch, FinalValidation(), *callbacks], False, CheckpointFiles({}), plan, Path())
    trainer = build_trainer(settings, parts, accumulate_grad_batches=accumulate)
    trainer.fit(module, loader, DataLoader(ragged(3), batch_size=2))
    return module, watch


def test_micro_batches_with_ragged_masks_equal_the_whole_batch() -> None:
    """22 rows in steps of 8: the last step of an epoch is incomplete too."""
    whole, watched = trained(8, 1)
    for batch_size, accumulate in ((2, 4), (4, 2), (1, 8)):
        divided, divided_watched = trained(batch_size, accumulate)
        assert divided_watched.losses == pytest.approx(watched.losses, rel=1e-12)
        for ours, theirs in zip(divided.parameters(), whole.parameters(), strict=True):
            torch.testing.assert_close(
                ours, theirs, rtol=1e-9, atol=1e-9
            )  # Adam magnifies rounding of a key bias's zero gradient
    assert len(watched.losses) == 6


def test_a_step_without_scored_items_has_zero_gradients() -> None:
    rows = ragged(4)
    for row in rows[:2]:
        row["targets"].fill_(IGNORE_INDEX)
    module, watched = trained(2, 1, rows=rows, max_epochs=1)
    assert watched.losses[0] == 0.0
    assert watched.losses[1] > 0
    assert all(parameter.isfinite().all() for parameter in module.parameters())


def test_the_step_is_that_of_plain_pytorch() -> None:
    module, watched = trained(8, 1, max_epochs=1)
    model = tiny_gpt().double().train()
    head = LMHead(model, HeadContext(vocab_size=50, token_bytes=None), tied=True, loss_chunk_rows=None)
    optimizer = adamw(
        model.named_parameters(), lr=0.01, betas=[0.9, 0.95], eps=1e-8, weight_decay=0.1, decay="matrices", fused=False
    )
    for batch, logged in zip(DataLoader(ragged(22), batch_size=8), watched.losses, strict=True):
        loss = head.loss(model(batch["ids"]), batch)
        (loss.total / loss.count).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
        assert logged == pytest.approx(loss.total.item() / loss.count.item(), rel=1e-12)
    for ours, theirs in zip(module.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)


def test_validation_is_counted_in_steps_and_follows_the_last_one() -> None:
    assert trained(2, 2, max_steps=7, max_epochs=None, val_check_interval=3)[1].validated == [3, 6, 7]
    assert trained(2, 2, max_steps=6, max_epochs=None, val_check_interval=3)[1].validated == [3, 6]


def test_a_plan_ends_at_the_nearer_limit() -> None:
    def steps(max_steps: int | None, max_epochs: int | None) -> tuple[int, int]:
        settings = trainer_settings(max_steps=max_steps, max_epochs=max_epochs)
        plan = make_plan(settings, n_rows=32, rows_at_once=3, val_batches=1, accumulate_grad_batches=4)
        assert plan.steps_per_epoch == 3
        return plan.n_steps, plan.n_batches

    assert steps(5, None) == (5, 20)
    assert steps(None, 3) == (8, 32)  # 96 rows
    assert steps(None, 1) == (3, 11)  # the last batch completes the 32 rows with one of the next epoch
    assert steps(None, 4) == (11, 43)  # the last step has only the three batches that are left
    assert steps(5, 3) == (5, 20)
    assert steps(50, 3) == (8, 32)
    with pytest.raises(ValueError, match="both null"):
        steps(None, None)


def test_a_run_out_of_time_ends_after_a_whole_step_and_a_validation() -> None:
    _, watched = trained(2, 2, max_steps=7, max_epochs=None, val_check_interval=3, max_time={"seconds": 0})
    assert watched.validated == [1]
    _, watched = trained(2, 2, max_steps=7, max_epochs=None, val_check_interval=3, max_time="00:00:00:00", min_steps=4)
    assert watched.validated == [3, 4]


def test_each_number_of_the_gradient_can_be_clipped() -> None:
    largest = []

    class Watched(Watch):
        def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
            largest.append(max(float(p.grad.abs().max()) for p in pl_module.parameters()))

    module, _ = trained(8, 1, max_epochs=1, gradient_clip_val=0.01, gradient_clip_algorithm="value", watch=Watched())
    assert max(largest) == 0.01
    assert float(module.grad_norm) > 0.01  # before clipping


def test_a_run_without_validation_batches_trains_on() -> None:
    _, watched = trained(8, 1, limit_val_batches=0)
    assert watched.validated == []
    assert len(watched.losses) == 6
