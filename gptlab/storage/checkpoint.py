"""A run's checkpoint: tensors and plain Python values."""

import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gptlab.errors import MissingFileError, UnusablePathError, UserError
from gptlab.storage.atomic import atomic_replace, sync_folder
from gptlab.storage.checksum import HashingFile, announce_checksum, check_checksum, record_checksum
from gptlab.storage.excerpts import excerpt
from gptlab.storage.foreign.recognition import recognised
from gptlab.storage.tensors import check_pickle, check_tensors
from gptlab.storage.values import check_plain

FORMAT = 5
RECORD = "gptlab"  # key of the run's record in a checkpoint
TENSOR_OVERHEAD = 350  # bytes of a tensor's name, shape and place in the file
PROGRESS_BYTES = 5_000  # of counters and the state of callbacks
RECORD_TYPES = {
    "config": dict,
    "tokenizer": str | None,
    "labels": dict,
    "references": dict,
    "choices": dict,
    "command": str,
}


def read_checkpoint(path: Path, *, mmap: bool) -> dict[str, Any]:
    """Return a checkpoint's content, on the CPU.

    The checksum is verified, and no code in the file runs.

    Args:
        mmap: leave the tensors on disk until they are read. The file must not be overwritten in place.

    Raises:
        UserError: the file is not a gptlab checkpoint, is damaged, or has another format.
        FileNotFoundError: there is no such file.
    """
    check_checksum(path)
    with recognised(path):
        check_pickle(path)
        content = _load(path, mmap=mmap)
        if not isinstance(content, dict) or not isinstance(content.get(RECORD), dict):
            raise UserError(f"{path} holds no gptlab run: give a run folder, or a .ckpt that `train.py` wrote")
    _check_content(content, path)
    return content


def _load(path: Path, *, mmap: bool) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise UserError(
            f"{path} is not a whole checkpoint ({type(error).__name__}): take another one of the run, or train again"
        ) from error


def _check_format(version: Any, path: Path) -> None:
    """Raise a UserError for a checkpoint of another format."""
    if type(version) is not int:
        raise UserError(f"{path}: its format is {excerpt(version)}, wanted {FORMAT}: take another checkpoint")
    written = f"(checkpoint format {excerpt(version)}; this one reads {FORMAT})"
    if version < FORMAT:
        raise UserError(
            f"{path} was written by an older gptlab {written}: train the run again, or open it with that version"
        )
    if version > FORMAT:
        raise UserError(f"{path} was written by a newer gptlab {written}: update gptlab")


def _check_content(content: dict[str, Any], path: Path) -> None:
    """Raise a UserError for a malformed checkpoint."""
    record, tensors = content[RECORD], content.get("state_dict")
    _check_format(record.get("format"), path)
    try:
        check_plain(record)
    except ValueError as error:
        raise UserError(f"{path}: the record of its run cannot be read ({error}): take another checkpoint") from error
    wrong = [name for name, kind in RECORD_TYPES.items() if name not in record or not isinstance(record[name], kind)]
    if wrong:
        raise UserError(f"{path}: the record of its run lacks {', '.join(wrong)}: take another checkpoint")
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise UserError(f"{path} holds no weights: take another checkpoint of the run")
    check_tensors(content, path)


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint to open for a path.

    A .ckpt is returned as is; a run folder gives its best checkpoint, else its last.

    Raises:
        FileNotFoundError: there is no checkpoint.
        UserError: another program's folder, see `recognised`.
    """
    path = path.expanduser()
    with recognised(path):
        return _find_checkpoint(path)


def _find_checkpoint(path: Path) -> Path:
    if path.suffix == ".safetensors":
        raise MissingFileError(f"{path} is a file of a model folder: give the folder, {path.parent}")
    if path.is_file():
        return path
    for name in ("best.ckpt", "last.ckpt"):
        if (path / "checkpoints" / name).is_file():
            return path / "checkpoints" / name
    if not path.exists():
        raise MissingFileError(f"run={path}: there is no such folder or file: give a run folder, or a .ckpt in it")
    if (path / "config.json").is_file():
        raise MissingFileError(f"{path} is a model folder, not a run folder: set weights=hf weights.path={path}")
    raise MissingFileError(
        f"run={path}: it holds neither checkpoints/best.ckpt, checkpoints/last.ckpt nor config.json: give a run folder "
        "or a pretrained model's folder"
    )


def content_bytes(tensor_bytes: int, *, n_tensors: int, record: Mapping[str, Any]) -> int:
    """Return the size of a checkpoint's file.

    Args:
        tensor_bytes: of all tensors, `n_tensors` of them.
    """
    return tensor_bytes + n_tensors * TENSOR_OVERHEAD + PROGRESS_BYTES + len(pickle.dumps(dict(record)))


def write_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Write a checkpoint and its checksum, whole or not at all.

    Raises:
        OSError: the file cannot be written; the message says how much disk space is free.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_replace(path) as temporary:
            with temporary.open("wb") as file:
                hashing = HashingFile(file)
                torch.save(content, hashing)  # type: ignore[arg-type]  # only write and flush are called
            digest = hashing.sha256.hexdigest()
            announce_checksum(path, digest)
        record_checksum(path, digest)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        kept = "; the previous one is unchanged" if path.exists() else ""
        free = shutil.disk_usage(path.parent).free / 1e6 if path.parent.exists() else 0.0
        raise UnusablePathError(
            f"{path}: the checkpoint cannot be written ({error}; {free:,.0f} MB are free): make room, or choose "
            f"another output_dir{kept}"
        ) from error
    sync_folder(path.parent)
