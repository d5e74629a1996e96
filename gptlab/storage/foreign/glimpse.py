"""A look at a file or folder of unknown origin: names, first bytes and words, nothing executed.

This module does not import torch.
"""

import io
import os
import pickletools
import zipfile
import zlib
from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from gptlab.errors import UserError
from gptlab.storage.files import open_regular, read_object

N_FIRST_BYTES = 4096
MAX_NAMES = 5_000  # of a folder's members
MAX_JSON_BYTES = 1 << 20
MAX_DIRECTORY_BYTES = 8 << 20  # of a zip file; 20,000 tensors need 2 MB
MAX_PICKLE_BYTES = 64 << 20
MAX_STEPS = 1_500_000  # of a pickle; a run's with a large vocabulary has a million
MAX_WORD_CHARACTERS = 200


class Glimpse:
    """What a file or folder shows of itself without being read as a model.

    Every property is bounded in time and memory, and empty where it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_dir = path.is_dir()

    @cached_property
    def names(self) -> frozenset[str]:
        """Return the names in a folder."""
        if not self.is_dir:
            return frozenset()
        try:
            with os.scandir(self.path) as entries:
                return frozenset(entry.name for entry in islice(entries, MAX_NAMES))
        except OSError:
            return frozenset()

    def ending(self, *endings: str) -> list[str]:
        """Return the names in a folder with one of these endings, in order."""
        return sorted(name for name in self.names if name.lower().endswith(endings) and name.isprintable())

    def json(self, name: str) -> dict[str, Any]:
        """Return the JSON object in a folder's file."""
        try:
            return read_object(self.path / name, limit=MAX_JSON_BYTES) if name in self.names else {}
        except (OSError, UserError):
            return {}

    @cached_property
    def first_bytes(self) -> bytes:
        """Return a file's first 4 kB."""
        try:
            with open_regular(self.path) as file:
                return file.read(N_FIRST_BYTES)
        except (OSError, UserError):
            return b""

    @cached_property
    def size(self) -> int:
        """Return a file's size in bytes, -1 if there is none."""
        try:
            return self.path.stat().st_size if self.path.is_file() else -1
        except OSError:
            return -1

    @cached_property
    def members(self) -> frozenset[str]:
        """Return the names in a zip file."""
        return self._archive[0]

    @cached_property
    def words(self) -> frozenset[str]:
        """Return the texts in a torch file's pickle: keys, names of tensors, classes.

        A file of torch before 1.6 is several pickles without an archive.
        """
        return frozenset(_words(self._archive[1] or self._old_pickles()))

    @cached_property
    def _archive(self) -> tuple[frozenset[str], bytes]:
        """Return the names in a zip file, and its pickle's first 64 MB."""
        if not self.first_bytes.startswith(b"PK"):
            return frozenset(), b""
        try:
            with open_regular(self.path) as checked, zipfile.ZipFile(_Bounded(checked.fileno())) as archive:
                names = archive.namelist()
                pickles = [name for name in names if name.rpartition("/")[2] == "data.pkl"]
                if not pickles:
                    return frozenset(names), b""
                with archive.open(pickles[0]) as member:
                    return frozenset(names), member.read(MAX_PICKLE_BYTES)
        except (OSError, UserError, ValueError, EOFError, LookupError, RuntimeError, zipfile.error, zlib.error):
            return frozenset(), b""

    def _old_pickles(self) -> bytes:
        if not self.first_bytes.startswith(b"\x80"):
            return b""
        with open_regular(self.path) as file:
            return file.read(MAX_PICKLE_BYTES)


class _Bounded(io.FileIO):
    """A file that refuses to read a huge directory of a zip file at once."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, closefd=False)

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_DIRECTORY_BYTES:
            raise zipfile.BadZipFile("its directory is too large")
        return super().read(MAX_DIRECTORY_BYTES if size is None or size < 0 else size) or b""


def _words(pickles: bytes) -> Iterator[str]:
    """Yield the short texts in pickles, and the classes they name, without executing them."""
    stream, n_steps = io.BytesIO(pickles), 0
    while stream.tell() < len(pickles):
        start = stream.tell()
        try:
            for _, argument, _ in pickletools.genops(stream):
                n_steps += 1
                if n_steps > MAX_STEPS:
                    return
                if isinstance(argument, str) and len(argument) <= MAX_WORD_CHARACTERS:
                    yield argument
        except Exception:  # any bytes may follow
            return
        if stream.tell() == start:
            return
