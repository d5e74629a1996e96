"""Checkpoints as Lightning writes and reads them: through our own files."""

from pathlib import Path
from typing import Any

from lightning.pytorch.plugins.io import CheckpointIO

from gptlab.training.files import FORMAT, RECORD, read_checkpoint, write_checkpoint


class CheckpointFiles(CheckpointIO):
    """Puts the run's record into every file, so that each is enough, alone, to open the run.

    Args:
        record: config, tokenizer, versions; plain values only.
    """

    def __init__(self, record: dict[str, Any]) -> None:
        self.record = {"format": FORMAT, **record}

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Writes the file whole or not at all."""
        write_checkpoint({**checkpoint, RECORD: self.record}, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Tensors and plain values."""
        return read_checkpoint(Path(path), mmap=False)

    def remove_checkpoint(self, path: Any) -> None:
        """Deletes the file."""
        Path(path).unlink(missing_ok=True)
