"""The largest micro-batch that fits, and that the step stays the same."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gptlab.batch import Batch
from gptlab.commands.train import main
from gptlab.config.compose import ConfigError, compose_config
from gptlab.hardware.memory import free_memory, memory_in_use
from gptlab.heads.lm import LMHead
from gptlab.heads.protocol import HeadContext
from gptlab.training import micro_batch
from gptlab.training.micro_batch import largest_micro_batch
from tests.conftest import TINY
from tests.support.tiny_models import tiny_gpt

V, T = 50, 20
CPU = torch.device("cpu")
LEAST_MB = 0.33  # memory of a step with one row


class Ragged:
    """A hundred rows, the longest in the middle."""

    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: np.ndarray) -> Batch:
        assert 50 in index  # the longest row is tried, however few are
        ids = torch.arange(T).repeat(len(index), 1)
        return Batch(ids=ids, targets=ids)

    def reading_order(self) -> np.ndarray:
        return np.roll(np.arange(100), 50)

    def epoch(self, generator: np.random.Generator, batch_rows: int) -> np.ndarray:
        return generator.permutation(100)


@pytest.fixture
def modules() -> nn.ModuleDict:
    model = tiny_gpt(vocab_size=V)
    head = LMHead(model, HeadContext(vocab_size=V, token_bytes=None, labels={}), tied=True, loss_chunk_rows="auto")
    return nn.ModuleDict({"model": model, "head": head})


def micro_batch_size(modules: nn.ModuleDict, monkeypatch: pytest.MonkeyPatch, free: float) -> int:
    monkeypatch.setattr(micro_batch, "free_memory", lambda device: free)
    return largest_micro_batch(
        modules, Ragged(), batch_size=12, accelerator="cpu", precision="32-true", optimizer=torch.optim.AdamW
    )


def test_as_many_rows_as_fit_into_memory(modules: nn.ModuleDict, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: value.clone() for name, value in modules.state_dict().items()}
    state = torch.get_rng_state()
    found = [
        micro_batch_size(modules, monkeypatch, megabytes * 1e6) for megabytes in np.linspace(LEAST_MB, 4 * LEAST_MB, 50)
    ]
    assert found == sorted(found)
    assert set(found) == {1, 2, 3, 4, 6, 12}  # the divisors of 12
    assert all(torch.equal(value, before[name]) for name, value in modules.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)  # the run's random numbers are untouched
    assert all(parameter.grad is None for parameter in modules.parameters())


def test_a_model_too_large_for_one_row_is_refused(modules: nn.ModuleDict, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"more than the 0\.0 GB that are free, even with one row at a time: choose"):
        micro_batch_size(modules, monkeypatch, 1000)


def test_a_system_that_does_not_report_its_memory_is_refused(
    modules: nn.ModuleDict, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="does not report its free memory: give a number"):
        micro_batch_size(modules, monkeypatch, None)  # type: ignore[arg-type]


def test_the_estimate_is_near_the_measured_memory(modules: nn.ModuleDict) -> None:
    ids = torch.randint(V, (32, T))

    def step(n: int) -> Any:
        return modules["head"].loss(modules["model"](ids[:n]), Batch(ids=ids[:n], targets=ids[:n]))

    estimate = micro_batch._estimated_bytes(step, modules, sum(parameter.nbytes for parameter in modules.parameters()))
    with torch.profiler.profile(profile_memory=True) as profile:
        step(32).total.backward()
    events = sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns())  # type: ignore[union-attr]
    peak = np.cumsum([event.nbytes() for event in events if event.name() == "[memory]"]).max()
    assert 0.8 < estimate(32) / peak < 1.5


def test_free_and_used_memory_are_plausible() -> None:
    free = free_memory(CPU)
    assert free is None or 0 < memory_in_use(CPU) < 1e12 > free > 0


def test_micro_batches_make_the_same_step_and_resume(
    tmp_path: Path, toy_text: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = [*TINY, "data=text", f"data.path={toy_text}", "callbacks=none", "logger=none", "model.drop_rate=0.1"]
    ends = ["trainer.max_steps=3", "schedule=constant"]
    auto = ["trainer.accumulate_grad_batches=auto", "data.batch_size=12", f"output_dir={tmp_path / 'auto'}"]
    monkeypatch.setattr(micro_batch, "largest_micro_batch", lambda *args, **kwargs: 4)
    keep = ["+callbacks.last_checkpoint._target_=gptlab.training.callbacks.checkpoints.LastCheckpoint"]
    keep += ["+callbacks.last_checkpoint._partial_=true", "+callbacks.last_checkpoint.every_n_train_steps=2"]
    keep += ["+callbacks.last_checkpoint.stable=false"]
    main([*run, *keep, *ends, *auto])
    assert "micro-batch 4 x 3 accumulation steps = 12 rows per step" in capsys.readouterr().out
    by_hand = ["trainer.accumulate_grad_batches=3", "data.batch_size=4", f"output_dir={tmp_path / 'hand'}"]
    main([*run, *keep, *ends, *by_hand])
    weights = [torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True) for name in ("auto", "hand")]
    assert all(torch.equal(value, weights[1]["state_dict"][name]) for name, value in weights[0]["state_dict"].items())

    monkeypatch.setattr(micro_batch, "largest_micro_batch", lambda *args, **kwargs: 1 / 0)  # resuming keeps the size
    main([*auto[:2], f"resume={tmp_path / 'auto'}", "trainer.max_steps=5"])
    assert json.loads((tmp_path / "auto" / "summary.json").read_text(encoding="utf-8"))["steps"] == 5


def test_auto_is_refused_on_several_devices() -> None:
    with pytest.raises(ConfigError, match=r"auto measures the memory of one device, but trainer\.devices is 2"):
        compose_config("train", ["trainer.accumulate_grad_batches=auto", "trainer.devices=2"])
