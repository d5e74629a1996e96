"""Limits on the size of unpacked files.

A few kB of gzip or zip can hold terabytes of zeros.
"""

import gzip
import io
from typing import IO, NamedTuple

from gptlab.errors import UserError
from gptlab.storage.excerpts import excerpt

ALWAYS_ALLOWED_BYTES = 64 << 20  # allowed for any file, however small


class ExpansionLimit(NamedTuple):
    """The limit on a compressed file's unpacked size."""

    compressed_bytes: int  # size of the file, or of the member in its archive
    expansion: float  # most unpacked bytes per compressed byte
    key: str  # configuration key of `expansion`

    @property
    def n_bytes(self) -> int:
        """Return the largest allowed unpacked size."""
        return max(ALWAYS_ALLOWED_BYTES, int(self.expansion * self.compressed_bytes))

    def check(self, n_bytes: int, name: str) -> None:
        """Raise a UserError above the limit.

        Args:
            n_bytes: bytes unpacked so far.
            name: of the file, for the message.
        """
        if n_bytes > self.n_bytes:
            raise UserError(
                f"{name} has {self.compressed_bytes:,} bytes and unpacks to more than {self.n_bytes:,}, the most that "
                f"{self.key}={self.expansion:g} allows: unpack it yourself, or raise {self.key} if you trust it"
            )


def check_expansion(expansion: float, key: str) -> None:
    """Raise a UserError unless the value is within its bounds."""
    if not isinstance(expansion, int | float) or isinstance(expansion, bool) or not 1 <= expansion < 1e9:
        raise UserError(f"{key} is {excerpt(expansion)}, wanted a number from 1 to below a billion")


def open_gzip(raw: IO[bytes], limit: ExpansionLimit, name: str) -> io.BufferedReader:
    """Open a gzip file for reading.

    Reading beyond the limit raises a UserError.
    """
    return io.BufferedReader(_LimitedGzip(raw, limit, name), buffer_size=1 << 16)


class _LimitedGzip(io.RawIOBase):
    """A gzip file with a limit on its size."""

    def __init__(self, raw: IO[bytes], limit: ExpansionLimit, name: str) -> None:
        self._file, self._limit, self._name = gzip.GzipFile(fileobj=raw, mode="rb"), limit, name

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # an IO's own type is private
        n_bytes = self._file.readinto(buffer)
        self._limit.check(self._file.tell(), self._name)
        return n_bytes

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()
