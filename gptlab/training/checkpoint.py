"""Checkpoints as Lightning writes and reads them: through our own files."""

import logging
import platform
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins.io import CheckpointIO

from gptlab.errors import UserError
from gptlab.storage.checkpoint import FORMAT, RECORD, read_checkpoint, write_checkpoint
from gptlab.storage.run_folder import FINISHED, status
from gptlab.storage.signature import sign
from gptlab.weights.base import check_base

log = logging.getLogger(__name__)


def start_step(
    checkpoint: str | None, data: L.LightningDataModule, *, n_steps: int, base: dict[str, Any] | None
) -> int:
    """The step after which a run of `n_steps` goes on from a checkpoint, with the data that are still to come; 0 for a
    new run.

    Args:
        base: the first weights as they are now, where checkpoints rest on them.

    Raises:
        UserError: there is nothing left to do, or the data or the first weights are no longer what they were.
    """
    if checkpoint is None:
        return 0
    content, folder = read_checkpoint(Path(checkpoint), mmap=True), Path(checkpoint).parents[1]
    state, done = content.get(type(data).__qualname__), content.get("global_step")
    if not isinstance(state, dict) or not isinstance(done, int) or done < 0:
        raise UserError(f"resume={folder}: {checkpoint} does not say how far the run came: take another checkpoint")
    data.load_state_dict(state)  # Lightning would load the weights before
    if base is not None:
        check_base(base, content[RECORD]["base"], run=folder)
    if done > n_steps or (done == n_steps and status(folder) in FINISHED):
        raise UserError(
            f"resume={folder}: {done} steps of it are done, and {n_steps} are wanted: give a larger trainer.max_steps"
        )
    log.info(f"goes on after step {done} of {n_steps}")
    return done


class CheckpointFiles(CheckpointIO):
    """Puts the run's record into every file, so that each is enough, alone, to open the run.

    Args:
        record: config, tokenizer, labels; plain values only.
    """

    def __init__(self, record: dict[str, Any]) -> None:
        versions = {"torch": str(torch.__version__), "python": platform.python_version()}
        self.record = {"format": FORMAT, **record, "versions": versions}
        try:
            self.record = sign(self.record)
        except OSError as error:  # no key can be kept here
            log.warning(f"the run is not signed ({error}): resuming it will ask for its data and callbacks again")

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Writes the file whole or not at all."""
        write_checkpoint({**checkpoint, RECORD: self.record}, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Tensors and plain values."""
        return read_checkpoint(Path(path), mmap=False)

    def remove_checkpoint(self, path: Any) -> None:
        """Deletes the file."""
        Path(path).unlink(missing_ok=True)
