"""Lightning's reading and writing of checkpoints, through our files."""

import logging
import platform
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins.io import CheckpointIO

from gptlab.errors import UserError
from gptlab.storage.checkpoint import FORMAT, RECORD, read_checkpoint, write_checkpoint
from gptlab.storage.run_folder import FINISHED, read_status
from gptlab.storage.signature import sign
from gptlab.training.lightning_internals import data_state
from gptlab.weights.base import check_base_unchanged

log = logging.getLogger(__name__)


def find_start_step(
    checkpoint: str | None, data: L.LightningDataModule, *, n_steps: int, base: dict[str, Any] | None
) -> int:
    """Return the step after which to resume; 0 without a checkpoint.

    The data module is set to the position of the checkpoint.

    Args:
        n_steps: length of the whole run.
        base: the base weights as they are now, if checkpoints depend on them.

    Raises:
        UserError: no steps are left, or the data or the base weights have changed.
    """
    if checkpoint is None:
        return 0
    content, folder = read_checkpoint(Path(checkpoint), mmap=True), Path(checkpoint).parents[1]
    state, start_step = data_state(content, type(data)), content.get("global_step")
    if not isinstance(state, dict) or not isinstance(start_step, int) or start_step < 0:
        raise UserError(
            f"resume={folder}: {checkpoint} does not say after which step it was saved: take another checkpoint"
        )
    data.load_state_dict(state)  # checked here, because Lightning would load the weights first
    if base is not None:
        check_base_unchanged(base, content[RECORD]["base"], run=folder)
    if start_step > n_steps or (start_step == n_steps and read_status(folder) in FINISHED):
        raise UserError(
            f"resume={folder}: the run has trained {start_step} steps and ends at {n_steps}: give a larger "
            "trainer.max_steps"
        )
    log.info(f"resuming after step {start_step} of {n_steps}")
    return start_step


class CheckpointFiles(CheckpointIO):
    """Lightning's checkpoint plugin, with the run's record in every file.

    With the record, each file alone is enough to open the run.

    Args:
        record: configuration, tokenizer and labels; plain values only.
    """

    def __init__(self, record: dict[str, Any]) -> None:
        versions = {"torch": str(torch.__version__), "python": platform.python_version()}
        self.record = {"format": FORMAT, **record, "versions": versions}
        try:
            self.record = sign(self.record)
        except OSError as error:  # the key's folder cannot be written
            log.warning(f"the run is not signed ({error}): resuming it will ask for its data and callbacks again")

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write the file atomically."""
        write_checkpoint({**checkpoint, RECORD: self.record}, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Return the file's tensors and plain values."""
        return read_checkpoint(Path(path), mmap=False)

    def remove_checkpoint(self, path: Any) -> None:
        """Delete the file."""
        Path(path).unlink(missing_ok=True)
