"""A run's checkpoint: tensors and plain Python values, written whole or not at all."""

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gptlab.errors import UserError
from gptlab.storage.checksum import HashingFile, check_checksum, replace_with_checksum
from gptlab.storage.tensors import check_pickle, check_tensors
from gptlab.storage.values import check_plain

FORMAT = 3
RECORD = "gptlab"  # the key under which a checkpoint says what it is
FIELDS = {
    "config": dict,
    "tokenizer": str | None,
    "labels": dict,
    "references": dict,
    "choices": dict,
    "command": str,
}  # of the record


def read_checkpoint(path: Path, *, mmap: bool) -> dict[str, Any]:
    """Return everything in a checkpoint, on the CPU, its checksum verified; nothing in the file is run.

    Args:
        mmap: leave the tensors on disk until they are read; not for a file that will be written in place.

    Raises:
        UserError: it is no checkpoint of gptlab's, is damaged, or has another format.
        FileNotFoundError: there is none.
    """
    check_checksum(path)
    check_pickle(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise UserError(
            f"{path} is not a whole checkpoint ({type(error).__name__}): take another one of the run's, or train anew"
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get(RECORD), dict):
        raise UserError(f"{path} holds no gptlab run: give a run's folder, or a .ckpt that `train.py` wrote")
    _check_content(content, path)
    return content


def _check_content(content: dict[str, Any], path: Path) -> None:
    """Check the form of what is read, which may come from anybody."""
    record, tensors = content[RECORD], content.get("state_dict")
    found = record.get("format")
    if found != FORMAT:
        what = (
            "update gptlab"
            if isinstance(found, int) and found > FORMAT
            else "train the run anew, or open it with the gptlab that wrote it"
        )
        raise UserError(f"{path} has format {found!r:.20}, and this gptlab reads format {FORMAT}: {what}")
    try:
        check_plain(record)
    except ValueError as error:
        raise UserError(f"{path}: the record of its run cannot be read ({error}): take another checkpoint") from error
    wrong = [name for name, kind in FIELDS.items() if name not in record or not isinstance(record[name], kind)]
    if wrong:
        raise UserError(f"{path}: the record of its run lacks {', '.join(wrong)}: take another checkpoint")
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise UserError(f"{path} holds no weights: take another checkpoint of the run's")
    check_tensors(content, path)


def find_checkpoint(path: Path) -> Path:
    """The checkpoint to open: a .ckpt itself, a run folder's best weights, else its last state.

    Raises:
        FileNotFoundError: there is none.
    """
    path = path.expanduser()
    if path.suffix == ".safetensors":
        raise FileNotFoundError(f"{path} is a file of a model's folder: give the folder, {path.parent}")
    if path.is_file():
        return path
    for name in ("best.ckpt", "last.ckpt"):
        if (path / "checkpoints" / name).is_file():
            return path / "checkpoints" / name
    if not path.exists():
        raise FileNotFoundError(f"run={path}: there is no such folder or file: give a run's folder, or a .ckpt in it")
    if (path / "config.json").is_file():
        raise FileNotFoundError(f"{path} is a model's folder, not a run's: set weights=hf weights.path={path}")
    raise FileNotFoundError(
        f"run={path}: no checkpoints/best.ckpt or last.ckpt is in it, and no config.json: give a whole run's folder, "
        "or a pretrained model's"
    )


def write_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Writes beside the target, flushes, and replaces: a crash or a full disk leaves the previous file as it was.

    Raises:
        OSError: the file cannot be written; says where, and what was free.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)  # it may be a link, as in `atomic_write`
        with part.open("xb") as file:
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
