"""Checkpoint files: written whole or not at all. What reads them is weights/checkpoint.py."""

import os
import shutil
from pathlib import Path
from typing import Any

import torch

from gptlab.training.checksum import HashingFile, replace_with_checksum


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


def _sync_folder(folder: Path) -> None:
    """Makes the new name itself outlive a power cut, where the system lets a folder be opened."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
