"""A run's checkpoint: tensors and plain Python values.

Apart from what writes it (training/files.py), so that a trained run opens, and gives its weights, without Lightning.
"""

from pathlib import Path
from typing import Any

import torch

FORMAT = 1
RECORD = "gptlab"  # the key under which a checkpoint says what it is


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
