"""How much a packed file may unpack to: a few kB of gzip or zip can hold terabytes of zeros."""

import gzip
import io
from typing import IO, NamedTuple

from gptlab.errors import UserError
from gptlab.storage.excerpts import excerpt

ALWAYS_UNPACKED_BYTES = 64 << 20  # may come from however few


class Bound(NamedTuple):
    """The most that a file may unpack to."""

    packed: int  # bytes as they came, of a member of an archive its own
    expansion: float  # times as many may come out
    key: str  # under which that is configured

    @property
    def n_bytes(self) -> int:
        """The most bytes that may come out."""
        return max(ALWAYS_UNPACKED_BYTES, int(self.expansion * self.packed))

    def check(self, n_bytes: int, name: str) -> None:
        """Raise a UserError if so many bytes are more than may come out of the file of this name."""
        if n_bytes > self.n_bytes:
            raise UserError(
                f"{name} has {self.packed:,} bytes and unpacks to more than {self.n_bytes:,}, the most that "
                f"{self.key}={self.expansion:g} allows: unpack it yourself, or raise {self.key} if you trust it"
            )


def check_expansion(expansion: float, key: str) -> None:
    """Raise a UserError unless it is a number from 1."""
    if not isinstance(expansion, int | float) or isinstance(expansion, bool) or not 1 <= expansion < 1e9:
        raise UserError(f"{key} is {excerpt(expansion)}, wanted a number from 1 below a billion")


def open_gzip(raw: IO[bytes], bound: Bound, name: str) -> io.BufferedReader:
    """Return what a gzip file unpacks to, which ends in a UserError where that is too much."""
    return io.BufferedReader(_Unpacked(raw, bound, name), buffer_size=1 << 16)


class _Unpacked(io.RawIOBase):
    """Unpacks as it is read, and counts."""

    def __init__(self, raw: IO[bytes], bound: Bound, name: str) -> None:
        self._file, self._bound, self._name = gzip.GzipFile(fileobj=raw, mode="rb"), bound, name

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # an IO's own type is private
        n_bytes = self._file.readinto(buffer)
        self._bound.check(self._file.tell(), self._name)
        return n_bytes

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()
