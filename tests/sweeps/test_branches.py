"""Jobs that begin where another one's decay began equal runs of their own."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from gptlab.commands.train import main
from gptlab.sweeps.branches import begin_branch
from tests.conftest import TINY

LENGTHS = (6, 12)
SHARED = (
    4  # steps of 6 that a run of 12 takes too: 6 x 0.5 before the decay, and the first of it, whose rate is still 1
)
OTHERS = ("callbacks.samples=null", "callbacks.probes=null", "final_evaluation=false", "logger=none")


class Sweep(NamedTuple):
    """A sweep of two lengths, and the longer run on its own."""

    folder: Path
    alone: Path
    words: list[str]

    def job(self, number: int) -> Path:
        """Return a job's folder; its name begins with its number."""
        (folder,) = [
            path.parent
            for path in self.folder.glob("*/summary.json")
            if int(path.parent.name.partition("_")[0]) == number
        ]
        return folder


@pytest.fixture(scope="module")
def swept(toy_text: Path, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    root = tmp_path_factory.mktemp("branches")
    words = [*TINY, *OTHERS, "data=text", f"data.path={toy_text}", "model.drop_rate=0.1"]
    words += ["schedule.decay_fraction=0.5", "schedule.warmup_steps=2", "trainer.accumulate_grad_batches=2"]
    words += ["trainer.val_check_interval=100"]
    lengths = f"trainer.max_steps={','.join(map(str, LENGTHS))}"
    sweep = [*words, "callbacks.last_checkpoint.stable=true", lengths, f"hydra.sweep.dir={root / 'sweep'}", "-m"]
    main(sweep)
    main([*words, f"trainer.max_steps={LENGTHS[1]}", f"output_dir={root / 'alone'}"])
    return Sweep(root / "sweep", root / "alone", sweep)


def summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def state(folder: Path, name: str = "last") -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


def config(folder: Path, **changes: Any) -> DictConfig:
    read = OmegaConf.load(folder / ".hydra" / "config.yaml")
    for key, value in changes.items():
        OmegaConf.update(read, key.replace("__", "."), value)
    assert isinstance(read, DictConfig)
    return read


def test_a_branch_equals_a_run_of_its_own(swept: Sweep) -> None:
    """The run on its own writes no stable.ckpt, so neither the writing nor the branching changes a bit."""
    branch, alone = swept.job(1), swept.alone
    assert summary(branch)["val"] == summary(alone)["val"]
    assert summary(branch)["tokens"] == summary(alone)["tokens"]
    assert summary(branch)["resumed"]
    assert not summary(alone)["resumed"]
    found, wanted = state(branch), state(alone)
    assert all(torch.equal(found["state_dict"][name], tensor) for name, tensor in wanted["state_dict"].items())
    assert "stable" not in summary(alone)["checkpoints"]


def test_stable_is_the_last_step_before_the_decay(swept: Sweep) -> None:
    assert state(swept.job(0), "stable")["global_step"] == SHARED
    assert state(swept.job(1), "stable")["global_step"] == 7


def test_the_best_checkpoint_is_the_jobs_own(swept: Sweep) -> None:
    assert summary(swept.job(1))["best_step"] == LENGTHS[1]
    assert (swept.job(1) / "checkpoints" / "best.ckpt").is_file()


@pytest.mark.parametrize(
    ("changes", "begins"),
    [
        ({"trainer__max_steps": 40}, True),
        ({"trainer__max_steps": 3}, False),  # it decays from the second step on
        ({"trainer__max_steps": None, "trainer__max_epochs": 9}, False),
        ({"optim__lr": 0.5}, False),
        ({"seed": 7}, False),
        ({"callbacks__last_checkpoint__stable": False}, False),
    ],
    ids=str,
)
def test_only_the_length_may_differ(swept: Sweep, tmp_path: Path, changes: dict[str, Any], begins: bool) -> None:
    cfg = config(swept.job(1), **changes)
    assert (begin_branch(cfg, tmp_path / "9", swept.folder) is not None) == begins
    assert (tmp_path / "9" / "checkpoints" / "last.ckpt").is_file() == begins


def test_a_job_begins_from_the_latest_step_that_it_shares(swept: Sweep, tmp_path: Path) -> None:
    for length, step in ((40, 7), (9, SHARED)):
        begin_branch(config(swept.job(0), trainer__max_steps=length), tmp_path / str(length), swept.folder)
        assert state(tmp_path / str(length))["global_step"] == step


def test_a_damaged_checkpoint_is_passed_over(swept: Sweep, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sweep = tmp_path / "sweep"
    shutil.copytree(swept.job(1), sweep / "001")
    (sweep / "001" / "checkpoints" / "stable.ckpt").write_bytes(b"torn")
    with caplog.at_level(logging.WARNING):
        assert begin_branch(config(swept.job(1), trainer__max_steps=40), sweep / "2", sweep) is None
    assert "stable.ckpt is damaged" in caplog.text


@pytest.mark.slow
def test_a_branch_that_was_killed_goes_on(swept: Sweep, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    shutil.copytree(swept.folder, sweep)
    (job,) = [path for path in sweep.glob("*") if path.is_dir() and int(path.name.partition("_")[0]) == 1]
    record = job / "status.json"
    wanted = json.loads(record.read_text(encoding="utf-8"))
    shutil.rmtree(job / "checkpoints")
    (job / "summary.json").unlink()
    record.write_text(json.dumps({key: wanted[key] for key in ("job", "overrides", "varies")} | {"status": "running"}))
    begin_branch(config(swept.job(1)), job, sweep)
    main([word if not word.startswith("hydra.sweep.dir") else f"hydra.sweep.dir={sweep}" for word in swept.words])
    assert json.loads(record.read_text(encoding="utf-8"))["value"] == wanted["value"]
