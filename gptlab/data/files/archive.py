"""A file out of a zip archive, taken out once."""

import hashlib
import io
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, NamedTuple

from gptlab.data.files.cache import atomic_replace, locked, safe_name
from gptlab.data.files.expansion import Bound
from gptlab.errors import UserError
from gptlab.storage.excerpts import excerpt_names
from gptlab.storage.files import open_regular

MAX_CONTENTS_BYTES = 16 << 20  # of the list of members, about 200,000 of them; Python takes ten times the memory
_BLOCK = 1 << 20  # bytes
# what the module raises for a damaged archive
_DAMAGED = (
    *(zipfile.BadZipFile, EOFError, zlib.error, struct.error),
    *(LookupError, OverflowError, RuntimeError, UnicodeError),
)


class Taken(NamedTuple):
    """A member, taken out."""

    path: Path
    packed: int  # bytes that it has in the archive


def extract_member(
    archive: Path, member: str, *, sha256: str | None, folder: Path, expansion: float, expansion_key: str
) -> Taken:
    """The member of this name, or of this name without its ending, which then only says how to read it.

    Args:
        sha256: of the member; None takes what is there.
        folder: where it is kept.
        expansion: the most bytes that may come out of one, and the key that says so.

    Raises:
        FileNotFoundError: there is no such archive, or no such member.
        UserError: it is no whole zip file, unpacks to too much, or the member has another sha256.
    """
    if not archive.is_file():
        raise FileNotFoundError(f"data.path: there is no {archive}.")
    with _Listed(open_regular(archive)) as raw, _open(raw, archive) as opened:
        info = _find(opened, archive, member)
        bound = Bound(min(info.compress_size, archive.stat().st_size), expansion, expansion_key)
        name = f"{info.filename!r:.100} in {archive}"
        _check(info, name)
        bound.check(info.file_size, name)
        stat = archive.stat()
        key = f"{archive.absolute()} {stat.st_size} {stat.st_mtime_ns} {member} {sha256}"
        path = folder / f"{hashlib.sha256(os.fsencode(key)).hexdigest()[:16]}-{safe_name(Path(member).name)}"
        with locked(path):
            if not path.exists():
                with atomic_replace(path) as temporary:
                    found = _unpack(opened, info, temporary, bound, name)
                    if sha256 not in (None, found):
                        raise UserError(
                            f"{member} in {archive} has the sha256 {found}, but data.sha256 is {sha256}: set "
                            "data.sha256=null to take it as it is."
                        )
    return Taken(path, bound.packed)


def _open(raw: "_Listed", archive: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(raw)
    except (*_DAMAGED, ValueError, OSError) as error:  # also where something is said to lie where no file has a place
        raise _damaged(archive, error) from error


def _damaged(archive: Path | str, error: Exception) -> UserError:
    return UserError(f"{archive} is not a whole zip file ({error!s:.200}); pack or fetch it again.")


class _Listed(io.BufferedReader):
    """An archive whose list of members, which is read in one go, has a bound."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file.detach())  # type: ignore[attr-defined]  # a BufferedReader

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_CONTENTS_BYTES:
            raise zipfile.BadZipFile(f"its list of members has {size:,} bytes, at most {MAX_CONTENTS_BYTES:,} are read")
        return super().read(size)


def _find(opened: zipfile.ZipFile, archive: Path, member: str) -> zipfile.ZipInfo:
    there = opened.NameToInfo
    name = next((name for name in (member, str(Path(member).with_suffix(""))) if name in there), None)
    if name is None:
        raise FileNotFoundError(
            f"data.path: {archive} holds no {excerpt_names([member])}; there are {excerpt_names(there)}."
        )
    return there[name]


def _check(info: zipfile.ZipInfo, name: str) -> None:
    if info.flag_bits & 1:
        raise UserError(f"{name} is encrypted; unpack it yourself, and pass data.path=FILE")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # of others a block may unpack to GBs
        raise UserError(f"{name} is packed by method {info.compress_type}, wanted deflate; pack it again so")
    if info.header_offset < 0:
        raise UserError(f"{name} lies before the archive begins; pack or fetch it again.")


def _unpack(opened: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, bound: Bound, name: str) -> str:
    """Write the member to a file, a block at a time, and return its sha256."""
    digest, n_bytes = hashlib.sha256(), 0
    try:
        packed = opened.open(info)
    except (*_DAMAGED, ValueError, OSError) as error:
        raise _damaged(name, error) from error
    try:
        with packed, path.open("wb") as file:
            while block := packed.read(_BLOCK):
                n_bytes += len(block)
                bound.check(n_bytes, name)
                file.write(block)
                digest.update(block)
    except _DAMAGED as error:
        raise _damaged(name, error) from error
    return digest.hexdigest()
