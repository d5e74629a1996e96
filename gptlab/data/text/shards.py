"""Shards: files of token ids."""

import contextlib
import hashlib
import os
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gptlab.storage.checksum import file_sha256


class Shard(NamedTuple):
    """A file of ids, and its checksums."""

    path: Path
    n_tokens: int
    mtime_ns: int
    sha256: str

    def is_whole(self, dtype: str) -> bool:
        """Return whether the file is unchanged since it was written.

        The content is read only if the file's time has changed.
        """
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return False
        if stat.st_size != self.n_tokens * np.dtype(dtype).itemsize:
            return False
        if stat.st_mtime_ns == self.mtime_ns:
            return True
        whole = file_sha256(self.path) == self.sha256
        if whole:  # a copy, for example: restore its time, so that the next check need not read it
            with contextlib.suppress(OSError):
                os.utime(self.path, ns=(stat.st_atime_ns, self.mtime_ns))
        return whole


class ShardWriter:
    """Writer of <name>-00000.bin, <name>-00001.bin ...

    A context manager; the shards are complete when it ends.

    Args:
        dtype: of the ids in the files.
        shard_tokens: tokens of each shard but the last; None writes one shard.
    """

    def __init__(self, folder: Path, name: str, *, dtype: str, shard_tokens: int | None) -> None:
        self.folder, self.name, self.dtype = folder, name, dtype
        self.shard_tokens = shard_tokens or sys.maxsize
        self.shards: list[Shard] = []

    def __enter__(self) -> "ShardWriter":
        self._begin()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def write(self, ids: np.ndarray) -> None:
        """Append ids, (T,)."""
        while len(ids):
            if self._n_tokens == self.shard_tokens:
                self._end()
                self._begin()
            here, ids = np.split(ids, [self.shard_tokens - self._n_tokens])
            content = here.astype(self.dtype).tobytes()
            self._file.write(content)
            self._digest.update(content)
            self._n_tokens += len(here)

    def _begin(self) -> None:
        self._path = self.folder / f"{self.name}-{len(self.shards):05d}.bin"
        self._file, self._digest, self._n_tokens = self._path.open("wb"), hashlib.sha256(), 0

    def _end(self) -> None:
        self._file.close()
        self.shards.append(Shard(self._path, self._n_tokens, self._path.stat().st_mtime_ns, self._digest.hexdigest()))
