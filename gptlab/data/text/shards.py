"""Files of token ids: written in order, and recognised later as whole."""

import contextlib
import hashlib
import os
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Shard(NamedTuple):
    """A file of ids with nothing else in it, and how it is known to be whole."""

    path: Path
    n_tokens: int
    mtime_ns: int
    sha256: str

    def is_whole(self, dtype: str) -> bool:
        """The size is right, and so is the content; that is read only if the file was touched since it was written."""
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return False
        if stat.st_size != self.n_tokens * np.dtype(dtype).itemsize:
            return False
        if stat.st_mtime_ns == self.mtime_ns:
            return True
        with self.path.open("rb") as file:
            whole = hashlib.file_digest(file, "sha256").hexdigest() == self.sha256
        if whole:  # a copy, for example: next time the look at its time shall do
            with contextlib.suppress(OSError):
                os.utime(self.path, ns=(stat.st_atime_ns, self.mtime_ns))
        return whole


class ShardWriter:
    """Writes <name>-00000.bin and so on, beginning the next file when one has `shard_tokens` (None: never).

    A context manager; the shards are complete when it ends.
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
        """(T,) ids, appended."""
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
