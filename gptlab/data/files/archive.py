"""Extraction of one file from a zip archive."""

import hashlib
import io
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, NamedTuple

from gptlab.data.files.cache import locked_entry, safe_name
from gptlab.data.files.expansion import ExpansionLimit
from gptlab.errors import MissingFileError, UserError
from gptlab.storage.atomic import atomic_replace
from gptlab.storage.excerpts import excerpt_names
from gptlab.storage.files import open_regular

MAX_DIRECTORY_BYTES = 16 << 20  # size of the list of members, about 200,000 entries; parsing takes ten times the memory
BLOCK_BYTES = 1 << 20
# exceptions that `zipfile` raises for a damaged archive
DAMAGED_ZIP_ERRORS = (
    *(zipfile.BadZipFile, EOFError, zlib.error, struct.error),
    *(LookupError, OverflowError, RuntimeError, UnicodeError),
)


class ExtractedMember(NamedTuple):
    """A member's file in the cache."""

    path: Path
    compressed_bytes: int  # its size in the archive


def extract_member(
    archive: Path, member: str, *, sha256: str | None, folder: Path, expansion: float, expansion_key: str
) -> ExtractedMember:
    """Extract one member of a zip archive.

    Args:
        member: its name. If there is no such member, the last suffix of the name is dropped; it then only selects how
            the file is read.
        sha256: of the member; None accepts any content.
        folder: where the extracted file is kept.
        expansion: most unpacked bytes per compressed byte.
        expansion_key: the configuration key of `expansion`, for messages.

    Raises:
        FileNotFoundError: there is no such archive, or no such member.
        UserError: it is not a whole zip file, unpacks to too much, or the member has another sha256.
    """
    if not archive.is_file():
        raise MissingFileError(f"data.path: there is no {archive}")
    with _ArchiveReader(open_regular(archive)) as raw, _open_archive(raw, archive) as opened:
        info = _find_member(opened, archive, member)
        limit = ExpansionLimit(min(info.compress_size, archive.stat().st_size), expansion, expansion_key)
        name = f"{info.filename!r:.100} in {archive}"
        _check_member(info, name)
        limit.check(info.file_size, name)
        stat = archive.stat()
        key = f"{archive.absolute()} {stat.st_size} {stat.st_mtime_ns} {member} {sha256}"
        path = folder / f"{hashlib.sha256(os.fsencode(key)).hexdigest()[:16]}-{safe_name(Path(member).name)}"
        with locked_entry(path):
            if not path.exists():
                with atomic_replace(path, locked=True) as temporary:
                    digest = _write_member(opened, info, temporary, limit, name)
                    if sha256 not in (None, digest):
                        raise UserError(
                            f"{member} in {archive} has the sha256 {digest}, but data.sha256 is {sha256}: set "
                            "data.sha256=null to accept any content"
                        )
    return ExtractedMember(path, limit.compressed_bytes)


def _open_archive(raw: "_ArchiveReader", archive: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(raw)
    except (*DAMAGED_ZIP_ERRORS, ValueError, OSError) as error:  # ValueError and OSError: impossible offsets
        raise _damaged(archive, error) from error


def _damaged(archive: Path | str, error: Exception) -> UserError:
    return UserError(f"{archive} is not a whole zip file ({error!s:.200}): pack or fetch it again")


class _ArchiveReader(io.BufferedReader):
    """An archive with a bounded list of members.

    `zipfile` reads the list in one go.
    """

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file.detach())  # type: ignore[attr-defined]  # a BufferedReader

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_DIRECTORY_BYTES:
            raise zipfile.BadZipFile(f"its list of members has {size:,} bytes, wanted at most {MAX_DIRECTORY_BYTES:,}")
        return super().read(size)


def _find_member(opened: zipfile.ZipFile, archive: Path, member: str) -> zipfile.ZipInfo:
    members = opened.NameToInfo
    name = next((name for name in (member, str(Path(member).with_suffix(""))) if name in members), None)
    if name is None:
        raise MissingFileError(
            f"data.path: {archive} holds no {excerpt_names([member])}; there are {excerpt_names(members)}"
        )
    return members[name]


def _check_member(info: zipfile.ZipInfo, name: str) -> None:
    if info.flag_bits & 1:
        raise UserError(f"{name} is encrypted: unpack it yourself, and pass data.path=FILE")
    # with other methods a single block may unpack to gigabytes
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UserError(f"{name} is compressed by method {info.compress_type}, wanted deflate: pack it again with that")
    if info.header_offset < 0:
        raise UserError(f"{name} lies before the archive begins: pack or fetch it again")


def _write_member(opened: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, limit: ExpansionLimit, name: str) -> str:
    """Write a member to a file and return its sha256."""
    digest, n_bytes = hashlib.sha256(), 0
    try:
        compressed = opened.open(info)
    except (*DAMAGED_ZIP_ERRORS, ValueError, OSError) as error:
        raise _damaged(name, error) from error
    try:
        with compressed, path.open("wb") as file:
            while block := compressed.read(BLOCK_BYTES):
                n_bytes += len(block)
                limit.check(n_bytes, name)
                file.write(block)
                digest.update(block)
    except DAMAGED_ZIP_ERRORS as error:
        raise _damaged(name, error) from error
    return digest.hexdigest()
