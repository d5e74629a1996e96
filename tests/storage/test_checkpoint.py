"""Checkpoint files and the folder they lie in."""

import hashlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from gptlab.errors import UnusablePathError
from gptlab.storage import atomic
from gptlab.storage.checkpoint import write_checkpoint
from gptlab.storage.checksum import check_checksum, checksum_path
from gptlab.storage.run_folder import claim_folder, is_locked, lock_run, read_status
from gptlab.training.callbacks.signals import StopOnSignal


def test_the_checksum_matches_the_files_bytes(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    write_checkpoint({"weight": torch.randn(1000)}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert checksum_path(path).read_text() == f"{digest}  last.ckpt\n"  # the format of sha256sum
    check_checksum(path)


def test_one_flipped_bit_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    write_checkpoint({"weight": torch.randn(1000)}, path)
    content = bytearray(path.read_bytes())
    content[2000] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"last\.ckpt is damaged: its sha256 is not the one in last\.ckpt\.sha256"):
        check_checksum(path)
    checksum_path(path).unlink()
    check_checksum(path)  # as the message advises


def test_a_crash_between_a_file_and_its_checksum_leaves_a_whole_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check a crash at each of the three renames."""
    path = tmp_path / "last.ckpt"
    write_checkpoint({"step": 1}, path)
    replace = os.replace
    for survived in range(3):
        left = survived

        def failing(source: Path, target: Path) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            replace(source, target)

        monkeypatch.setattr(atomic.os, "replace", failing)
        with pytest.raises(KeyboardInterrupt):
            write_checkpoint({"step": 2 + survived}, path)
        monkeypatch.setattr(atomic.os, "replace", replace)
        check_checksum(path)
        found = torch.load(path, weights_only=True)["step"]
        assert found == (1 if survived < 2 else 4)


def test_a_checkpoint_that_cannot_be_written_speaks_of_the_previous_one_if_there_is_one(tmp_path: Path) -> None:
    class Full:
        def __reduce__(self) -> Any:
            raise OSError(28, "the disk is full")

    path = tmp_path / "last.ckpt"
    with pytest.raises(UnusablePathError, match=r"make room, or choose another output_dir$"):
        write_checkpoint({"a": Full()}, path)
    write_checkpoint({"a": 1}, path)
    with pytest.raises(UnusablePathError, match=r"another output_dir; the previous one is unchanged$"):
        write_checkpoint({"a": Full()}, path)
    assert torch.load(path, weights_only=True) == {"a": 1}


def test_a_folder_belongs_to_one_run_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with lock_run(folder):
        assert is_locked(folder)
        with pytest.raises(ValueError, match="is being trained by another process: wait for it"), lock_run(folder):
            pass
    assert not is_locked(folder)
    claim_folder(folder)
    claim_folder(folder)  # a folder without a checkpoint can be claimed again
    write_checkpoint({}, folder / "checkpoints" / "last.ckpt")
    with pytest.raises(ValueError, match="holds a run already: resume it with resume="):
        claim_folder(folder)


def test_the_status_of_a_folder(tmp_path: Path) -> None:
    assert read_status(tmp_path) == "unfinished"
    for text, said in (('{"status": "finished"}', "finished"), ('{"sta', "unfinished"), ("{}", "unfinished")):
        (tmp_path / "summary.json").write_text(text)
        assert read_status(tmp_path) == said


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_second_signal_does_not_wait(number: int, error: type[BaseException]) -> None:
    before, stop = signal.getsignal(number), StopOnSignal()
    stop.on_train_start()
    try:
        os.kill(os.getpid(), number)
        with pytest.raises(error):
            os.kill(os.getpid(), number)
    finally:
        stop.on_train_end()
    assert signal.getsignal(number) is before
