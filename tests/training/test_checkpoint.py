"""Checkpoint files through Lightning: whole or not at all, and verified when read."""

import resource
import signal
from pathlib import Path

import pytest
import torch

from gptlab.storage.checkpoint import read_checkpoint
from gptlab.storage.checksum import checksum_path
from gptlab.training.checkpoint import CheckpointFiles

RECORD = {
    "config": {},
    "references": {},
    "choices": {},
    "tokenizer": None,
    "labels": {},
    "command": "",
}  # the keys of a run's record


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    """The system refuses to let a file grow, as on a full disk."""
    files, path = CheckpointFiles(RECORD), tmp_path / "last.ckpt"
    files.save_checkpoint({"state_dict": {"weight": torch.arange(3)}}, path)
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        with pytest.raises(OSError, match=r"last\.ckpt: the checkpoint cannot be written .* MB are free\): make room"):
            files.save_checkpoint({"weight": torch.randn(100_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.ckpt", "last.ckpt.sha256"]
    assert read_checkpoint(path, mmap=False)["state_dict"]["weight"].tolist() == [0, 1, 2]


def test_a_damaged_or_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    CheckpointFiles(RECORD).save_checkpoint({"state_dict": {"weight": torch.randn(1000)}}, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"x\.ckpt is damaged"):
        read_checkpoint(path, mmap=False)
    checksum_path(path).unlink()
    with pytest.raises(ValueError, match=r"x\.ckpt is not a whole file of torch"):
        read_checkpoint(path, mmap=False)
    torch.save({"weight": torch.randn(3)}, path)
    with pytest.raises(ValueError, match=r"x\.ckpt holds no gptlab run"):
        read_checkpoint(path, mmap=False)
