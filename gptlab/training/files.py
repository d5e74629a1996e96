"""Checkpoint files: tensors and plain Python values, written whole or not at all.

Apart from the plugin that Lightning calls (checkpoint.py), so that a trained run opens without Lightning.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import torch

from gptlab.training.checksum import HashingFile, replace_with_checksum

FORMAT = 1
RECORD = "gptlab"  # the key under which a checkpoint says what it is


def write_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Writes beside the target, flushes, and replaces: a crash or a full disk leaves the previous file as it was.

    Raises:
        OSError: the file cannot be written; says where, and what was free.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            hashing = HashingFile(file)
            torch.save(content, hashing)  # type: ignore[arg-type]  # it calls write and flush
            file.flush()
            os.fsync(file.fileno())
        replace_with_checksum(part, path, hashing.sha256.hexdigest())
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        free = shutil.disk_usage(path.parent).free / 1e6 if path.parent.exists() else 0.0
        part.unlink(missing_ok=True)
        raise OSError(
            f"{path}: the checkpoint cannot be written ({error}; {free:,.0f} MB are free): make room, or choose "
            "another output_dir; the previous checkpoint is as it was"
        ) from error
    _sync_folder(path.parent)


def read_checkpoint(path: Path, *, mmap: bool) -> dict[str, Any]:
    """Everything in a checkpoint, on the CPU; nothing in the file is run.

    Args:
        mmap: leave the tensors on disk until they are read; not for a file that will be written in place.

    Raises:
        ValueError: no checkpoint of gptlab's, or one of a newer format.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(
            f"{path} is not a whole checkpoint ({type(error).__name__}): take another one of the run's, or train anew"
        ) from error
    if not isinstance(content, dict) or RECORD not in content:
        raise ValueError(f"{path} holds no gptlab run: give a run's folder, or a .ckpt that `train.py` wrote")
    if content[RECORD]["format"] > FORMAT:
        raise ValueError(f"{path} has format {content[RECORD]['format']}, newer than {FORMAT}: update gptlab")
    return content


def _sync_folder(folder: Path) -> None:
    """Makes the new name itself outlive a power cut, where the system lets a folder be opened."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def find_checkpoint(path: Path) -> Path:
    """The checkpoint to open: a .ckpt itself, a run folder's best weights, else its last state.

    Raises:
        FileNotFoundError: there is none.
    """
    if path.is_file():
        return path
    for name in ("best.ckpt", "last.ckpt"):
        if (path / "checkpoints" / name).is_file():
            return path / "checkpoints" / name
    if not path.exists():
        raise FileNotFoundError(f"run={path}: there is no such folder or file: give a run's folder, or a .ckpt in it")
    raise FileNotFoundError(f"run={path}: no checkpoints/best.ckpt or last.ckpt is in it: give a whole run's folder")
