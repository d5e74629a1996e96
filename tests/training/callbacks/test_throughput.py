"""Throughput logs what happened."""

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers.logger import DummyLogger
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from gptlab.batch import Batch
from gptlab.commands.train import main
from gptlab.data.row_table import show_targets
from gptlab.hardware.peak import peak_flops
from gptlab.heads.lm import LMHead
from gptlab.heads.protocol import HeadContext, Monitor
from gptlab.training.callbacks.checkpoints import LastCheckpoint
from gptlab.training.callbacks.throughput import Throughput
from gptlab.training.callbacks.validation import FiniteValidation
from gptlab.training.context import DivergedError, Pictures, RunContext, WrittenSample
from gptlab.training.mfu import flops_per_token
from gptlab.training.module import GPTModule
from gptlab.training.optimizers import decay_groups
from gptlab.training.planning.estimate import Estimate
from gptlab.training.schedules import cosine
from tests.conftest import TINY
from tests.support.tiny_models import tiny_gpt

B, T, STEPS = 3, 12, 5
LR = 0.3
PICTURE = np.zeros((4, 6, 3), dtype=np.uint8)
SCHEDULE = partial(cosine, total_steps=STEPS, warmup_steps=2, start_factor=0.1, end_factor=0.0)
GIVEN = HeadContext(vocab_size=50, token_bytes=None)


def rows() -> list[Batch]:
    ids = torch.randint(50, (B * STEPS, T), generator=torch.Generator().manual_seed(3))
    return [Batch(ids=row, targets=row.roll(-1)) for row in ids]


def context(folder: Path, *, start_step: int = 0) -> RunContext:
    return RunContext(
        folder=folder,
        monitor=Monitor("val/loss", "min"),
        total_steps=STEPS,
        start_step=start_step,
        start=None,
        write_samples=lambda prompt: [WrittenSample(str(prompt), [1, 2], 1)],
        pictures=Pictures(samples=lambda samples: PICTURE, held_out=None, attention=lambda choice: lambda: PICTURE),
        run_probes=lambda n_questions, forward_context: {},
        read_text=None,
        labels=(),
        decode=lambda ids: " ".join(map(str, ids)),
        show_row=lambda batch, row: show_targets(batch, row, lambda ids: " ".join(map(str, ids))),
        is_hopeless=None,
        config="name: here\n",
        command="python train.py name=here 'data.path=a b.txt'",
        estimate=Estimate(
            n_steps=STEPS,
            step_tokens=B * T,
            seconds=2.0,
            training_seconds=1.8,
            n_validations=1,
            validation_seconds=0.1,
            sample_seconds=0.0,
            final_seconds=0.1,
            tokens_per_second=90.0,
            flops=1e6,
            memory={"weights": 1000},
            more_memory=1000,
            checkpoint_bytes=1000,
            disk_bytes=2000,
            measuring_seconds=0.1,
            crowding=1.0,
        ),
    )


class Keep(DummyLogger):
    """Keep the metrics of training steps and the steps of validations."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []
        self.validated: list[int] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        if "train/loss" in metrics:
            self.rows.append(metrics)
        else:
            self.validated.append(step)


def sgd(parameters: Any) -> torch.optim.Optimizer:
    """Return SGD with two groups, the second with a rate of its own."""
    matrices, vectors = decay_groups(parameters, weight_decay=0.1, decay="matrices")
    return torch.optim.SGD([matrices, {**vectors, "lr": LR / 7}], lr=LR)


def watched(
    *watchers: L.Callback,
    logger: Any = False,
    data: list[Batch] | None = None,
    schedule: Any = SCHEDULE,
    resume: Path | None = None,
    **trainer: Any,
) -> L.LightningModule:
    """Train a tiny model in float64 for a few steps."""
    model = tiny_gpt().train()
    head = LMHead(model, GIVEN, tied=True, loss_chunk_rows=None)
    module = GPTModule(model=model, head=head, optimizer=sgd, schedule=schedule)
    options: dict[str, Any] = {
        "accelerator": "cpu",
        "precision": "64-true",
        "max_steps": STEPS,
        "num_sanity_val_steps": 0,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        **trainer,
    }
    loader = DataLoader(data or rows(), batch_size=B)
    L.Trainer(callbacks=list(watchers), logger=logger, **options).fit(
        module, loader, DataLoader(rows()[:2]), ckpt_path=resume
    )
    return module


@pytest.mark.parametrize("clip", [0.01, None])
def test_the_gradient_norm_is_that_before_clipping_and_the_rate_that_of_the_step(clip: float | None) -> None:
    logger = Keep()
    watched(Throughput(log_every_n_steps=1), logger=logger, gradient_clip_val=clip)
    model = tiny_gpt().double().train()
    head = LMHead(model, GIVEN, tied=True, loss_chunk_rows=None)
    optimizer = sgd(model.named_parameters())
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, SCHEDULE)
    assert len(logger.rows) == STEPS
    for batch, logged in zip(DataLoader(rows(), batch_size=B), logger.rows, strict=True):
        loss = head.loss(model(batch["ids"]), batch)
        (loss.total / loss.count).backward()
        gradients = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
        assert logged["weights/gradient_norm"] == pytest.approx(gradients.square().sum().sqrt().item(), rel=1e-9)
        assert logged["weights/gradient_norm"] > 0.1  # far above the clipping
        assert logged["weights/lr"] == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        if clip is not None:
            for parameter in model.parameters():
                parameter.grad *= clip / (gradients.norm() + 1e-6)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()


def test_tokens_rate_and_mfu_belong_together() -> None:
    logger = Keep()
    module = watched(Throughput(log_every_n_steps=2), logger=logger)
    assert [row["work/tokens"] for row in logger.rows] == [B * T * step for step in (1, 2, 4, 5)]
    assert logger.validated == [STEPS]
    flops = flops_per_token(module.model, module.head, n_tokens=T)
    for row in logger.rows:
        work = row["work/tokens_per_second"] * flops / peak_flops(torch.device("cpu"), "64-true")
        assert row["work/mfu"] == pytest.approx(work)
        assert row["train/perplexity"] == pytest.approx(math.exp(row["train/loss"]))
        assert 0.05 < row["work/memory_gb"] < 100


def test_a_resumed_count_continues_and_its_rate_does_not_jump() -> None:
    first, second, logger = Throughput(log_every_n_steps=1), Throughput(log_every_n_steps=1), Keep()
    watched(first)
    state = {
        **json.loads(json.dumps(first.state_dict())),
        "seconds": 1e9,
    }  # plain values, and many seconds before the resume
    assert state["total_seconds"] > first.seconds
    second.load_state_dict({**state, "tokens": 10**15, "total_seconds": 2e9})
    assert second.seconds_before == 2e9
    assert second.state_dict()["total_seconds"] > 2e9
    watched(second, logger=logger)
    assert [row["work/tokens"] for row in logger.rows] == [10**15 + B * T * step for step in range(1, STEPS + 1)]
    now = [row["work/tokens_per_second"] for row in logger.rows]
    assert all(10 < rate < 1e9 for rate in now), "the rate includes tokens or seconds from before the resume"


class Reads(TorchDispatchMode):
    """Count how often a number is read from a tensor, which makes the host wait for a GPU."""

    n = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.n += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_no_step_waits_for_the_device_unless_it_logs(
    toy_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = L.Trainer.fit

    def reads(n_steps: int, *, log_every: int) -> int:
        counter = Reads()

        def counted(*args: Any, **kwargs: Any) -> None:
            with counter:
                fit(*args, **kwargs)

        monkeypatch.setattr(L.Trainer, "fit", counted)
        more = [
            "data=text",
            f"data.path={toy_text}",
            "head.loss_chunk_rows=null",
        ]  # the chunked loss reads a number, on a CPU only
        more += [f"trainer.max_steps={n_steps}", f"trainer.log_every_n_steps={log_every}"]
        more += ["trainer.val_check_interval=100", "sampling.max_new_tokens=1"]
        main([*TINY, *more, f"output_dir={tmp_path / str(n_steps) / str(log_every)}"])
        return counter.n

    peak_flops(torch.device("cpu"), "32-true")  # measured once, which reads numbers too
    assert reads(4, log_every=100) == reads(12, log_every=100) < reads(12, log_every=1)


class Poison(L.Callback):
    """Makes a weight nan after the second step, and counts what is made of it."""

    n_after = 0

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        if trainer.global_step == 2:
            pl_module.model.final_norm.weight.data[0] = math.nan

    def on_validation_epoch_end(self, *_: Any) -> None:
        self.n_after += 1


def test_weights_without_numbers_end_the_run_before_anything_is_made_of_them(tmp_path: Path) -> None:
    poison, given = Poison(), context(tmp_path)
    checks = [Throughput(log_every_n_steps=100), FiniteValidation(given)]
    with pytest.raises(DivergedError, match=r"^val/loss is nan at step 2: lower optim.lr or trainer.gradient_clip"):
        watched(*checks, poison, val_check_interval=2, check_val_every_n_epoch=None)
    assert poison.n_after == 0
    last = LastCheckpoint(given, every_n_train_steps=1, stable=False)
    with pytest.raises(DivergedError, match=r"^a weight is not finite at step 2"):
        watched(Poison(), last)
    assert last.saved_step == 1


@pytest.mark.parametrize(("interval", "validated"), [(2, [4, 6, 8]), (3, [6]), (4, [4, 8]), (8, [8])])
def test_an_extended_run_takes_the_rates_and_validations_of_its_new_settings(
    interval: int, validated: list[int], tmp_path: Path
) -> None:
    """It is saved after step 4, which its own interval of 3 did not validate."""

    def schedule(n_steps: int) -> Any:
        return partial(cosine, total_steps=n_steps, warmup_steps=0, start_factor=0.1, end_factor=0.0)

    def train(n_steps: int, start: int, every: int) -> Keep:
        last, logger = (
            LastCheckpoint(context(tmp_path, start_step=start), every_n_train_steps=100, stable=False),
            Keep(),
        )
        own: dict[str, Any] = {"schedule": schedule(n_steps), "max_steps": n_steps, "val_check_interval": every}
        own |= {"resume": last.path} if start else {}
        data = [row for _ in range(3) for row in rows()]
        watched(Throughput(log_every_n_steps=1), last, logger=logger, data=data, check_val_every_n_epoch=None, **own)
        return logger

    assert train(4, 0, 3).validated == [3]
    logger = train(8, 4, interval)
    assert logger.validated == validated
    rates = [row["weights/lr"] for row in logger.rows]
    assert rates == pytest.approx([LR * schedule(8)(step) for step in range(4, 8)])
