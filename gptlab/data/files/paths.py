"""The files that `data.path` names.

`data.path` is a file, folder, glob, package's file or address, or a list of them; or rows from memory.

`ARCHIVE.zip#MEMBER`, local or remote, is one file of an archive; data.sha256 is then the member's.
"""

import contextlib
import glob
import gzip
import hashlib
import logging
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from gptlab.data.files.archive import extract_member
from gptlab.data.files.download import address_name, download
from gptlab.data.files.expansion import ExpansionLimit, check_expansion, open_gzip
from gptlab.data.files.memory import MEMORY, find_rows
from gptlab.data.files.packages import PREFIX, check_within, find_in_package
from gptlab.errors import MissingFileError, NoPermissionError, UnusablePathError, UserError, nearest
from gptlab.storage.excerpts import excerpt
from gptlab.storage.files import expand_path, open_regular

log = logging.getLogger(__name__)

SCHEME = re.compile(r"([a-z][a-z0-9+.-]{1,30})://", re.IGNORECASE)
ARCHIVES = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar", ".bz2", ".xz", ".zst")


@dataclass(frozen=True)
class TextFile:
    """A file as it was when collected."""

    path: Path
    name: str  # prefix of its documents' names
    size: int  # bytes
    mtime_ns: int
    sha256: str | None  # expected of the content; None accepts any
    limit: ExpansionLimit  # of the unpacked size

    @contextlib.contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open the file for reading, unpacked.

        Raises:
            UserError: it is not a regular file or a whole gzip file, unpacks to more than its limit, or changed since
                it was collected.
            OSError: it cannot be read.
        """
        with self._open_raw() as raw:
            try:
                yield open_gzip(raw, self.limit, str(self.path)) if self.path.suffix == ".gz" else raw
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise UserError(f"{self.path} is not a whole gzip file ({error}): pack or copy it again") from error

    def line(self, number: int) -> str:
        """Return the place of a line, counted from 1, or of a row from memory, from 0."""
        return f"row {number - 1}" if self.name.startswith(MEMORY) else f"{self.path}, line {number}"

    def verify(self) -> None:
        """Raise a UserError if the content has another sha256."""
        if self.sha256 is None:
            return
        with self._open_raw() as raw:
            digest = hashlib.file_digest(raw, "sha256").hexdigest()  # type: ignore[arg-type]
        if digest != self.sha256:
            raise UserError(
                f"{self.path} has the sha256 {digest}, but data.sha256 is {self.sha256}: "
                "install the pinned version of the package, or set data.sha256=null to accept any content"
            )

    @contextlib.contextmanager
    def _open_raw(self) -> Iterator[IO[bytes]]:
        try:
            with open_regular(self.path) as raw:
                self._check_unchanged(os.fstat(raw.fileno()))
                yield raw
                self._check_unchanged(self.path.stat())
        except UserError:
            raise
        except OSError as error:
            kind = next((kind for kind in (MissingFileError, NoPermissionError) if issubclass(kind, type(error))), None)
            raise (kind or UnusablePathError)(f"{self.path} cannot be read: {error.strerror or error}") from error

    def _check_unchanged(self, now: os.stat_result) -> None:
        if (now.st_size, now.st_mtime_ns) != (self.size, self.mtime_ns):
            raise UserError(f"{self.path} changed while it was being read: run again once nothing writes to it")


def collect(
    path: str | list[str],
    *,
    endings: tuple[str, ...],
    sha256: str | None,
    cache_dir: Path,
    max_expansion: float,
    key: str = "data.path",
) -> list[TextFile]:
    """Return every file that `path` names, each once.

    Entries keep the order given; the files of a folder or glob are sorted by name.

    Args:
        endings: of readable files' names.
        sha256: of a download or a package's file; None accepts any content.
        max_expansion: most unpacked bytes per byte of an archive or gzip file.
        key: the configuration key of the path, for messages.

    Raises:
        UserError: there is nothing to read, or a file named by itself is empty, not regular or has another ending.
        FileNotFoundError: there is no such file, folder or package.
        ConnectionError: a download failed.
    """
    paths = _check_paths(path, key)
    if sha256 is not None and sum(map(_is_remote, paths)) > 1:
        raise UserError(f"data.sha256 is the hash of one file, but {key} names several: set data.sha256=null")
    expansion_key = "max_expansion" if key == "file" else "data.max_expansion"
    check_expansion(max_expansion, expansion_key)
    search = _Search(endings, sha256, cache_dir / "downloads", key, max_expansion, expansion_key)
    files: dict[str, TextFile] = {}
    for entry in paths:
        for file, name, compressed_bytes in search.files(entry):
            stat = file.stat()
            wanted = sha256 if entry.startswith(PREFIX) else None  # a download was checked on arrival
            size = stat.st_size if compressed_bytes is None else compressed_bytes
            limit = ExpansionLimit(size, max_expansion, expansion_key)
            text_file = TextFile(file.absolute(), name, stat.st_size, stat.st_mtime_ns, wanted, limit)
            files.setdefault(os.path.realpath(file), text_file)
    if not files:
        names = ", ".join(map(_one_line, paths))
        raise UserError(f"{key}={names} names no file that ends in {' '.join(endings)}: give another path")
    return list(files.values())


def _check_paths(path: Any, key: str) -> list[str]:
    """Return the paths as a list.

    Raises:
        UserError: one is empty, which would be the current folder, or is no text.
    """
    paths = [path] if isinstance(path, str | int) else path
    if not isinstance(paths, list) or not paths or not all(isinstance(entry, str) and entry for entry in paths):
        number = f"; a file or folder of that name is ./{path}" if isinstance(path, int) else ""
        raise UserError(f"{key} is {excerpt(path)}, wanted a path or a list of paths{number}")
    return paths


def _is_remote(path: str) -> bool:
    return path.startswith(("https://", "http://", PREFIX))


class _FoundFile(NamedTuple):
    """A file, and the name its documents get."""

    path: Path
    name: str
    compressed_bytes: int | None = None  # of a member, its size in the archive


class _Search(NamedTuple):
    """A search for readable files."""

    endings: tuple[str, ...]
    sha256: str | None
    downloads: Path
    key: str
    max_expansion: float
    expansion_key: str

    def files(self, path: str) -> list[_FoundFile]:
        """Return the files of one entry."""
        if path.startswith(MEMORY):
            return [_FoundFile(find_rows(path, key=self.key, endings=self.endings), path)]
        archive, is_member, member = path.partition(".zip#")
        if is_member:
            return [self._member(path, f"{archive}.zip", member)]
        if (scheme := SCHEME.match(path)) and not _is_remote(path):
            raise UserError(
                f"{self.key}={_one_line(path)}: {scheme.group(1)}:// is not read, only https://, http:// and {PREFIX}: "
                "fetch the file another way, and give its path"
            )
        if path.startswith(("https://", "http://")):
            _check_ending(f"{self.key}={_one_line(path)}", name := address_name(path), self.endings)
            return [_FoundFile(download(path, sha256=self.sha256, folder=self.downloads), name)]
        if not path.startswith(PREFIX):
            return self._local(path, expand_path(path, key=self.key))
        folder, inside = find_in_package(path, key=self.key)
        files = self._local(path, expand_path(str(inside), key=self.key))
        for file in files:
            check_within(folder, file.path, key=self.key)
        return files

    def _member(self, path: str, archive: str, member: str) -> _FoundFile:
        _check_ending(f"{self.key}={_one_line(path)}", member, self.endings)
        wanted = self.sha256 if _is_remote(path) else None
        if archive.startswith(("https://", "http://")):
            whole = download(archive, sha256=None, folder=self.downloads)
        elif archive.startswith(PREFIX):
            folder, whole = find_in_package(archive, key=self.key)
            check_within(folder, whole, key=self.key)
        else:
            whole = expand_path(archive, key=self.key)
        extracted = extract_member(
            whole,
            member,
            sha256=wanted,
            folder=self.downloads,
            expansion=self.max_expansion,
            expansion_key=self.expansion_key,
        )
        return _FoundFile(extracted.path, member, extracted.compressed_bytes)

    def _local(self, path: str, local: Path) -> list[_FoundFile]:
        if local.is_dir():
            return _readable_files(_walk(local, self.key), local, self.endings)
        if local.exists():
            if not local.is_file():
                raise UserError(f"{self.key}: {_one_line(local)} is not a regular file: give a file or folder")
            _check_ending(f"{self.key}={_one_line(path)}", local.name, self.endings)
            if local.stat().st_size == 0:
                raise UserError(f"{_one_line(local)} is empty: give {self.key} a file with text")
            return [_FoundFile(local, local.name)]
        if glob.has_magic(str(local)):
            matches = [Path(match) for match in glob.glob(str(local), recursive=True)]
            files = [match for match in matches if not match.is_dir()]
            return _readable_files(files, _fixed_folder(local), self.endings)
        if local.is_symlink():
            target = _one_line(os.readlink(local))
            raise MissingFileError(f"{self.key}: {_one_line(local)} is a link that leads nowhere, to {target}: mend it")
        raise MissingFileError(f"{self.key}: there is no {_one_line(path)}{_suggestion(local)}")


def _one_line(path: str | Path) -> str:
    """Return a path on one line."""
    return str(path) if str(path).isprintable() else repr(str(path))


def _check_ending(entry: str, name: str, endings: tuple[str, ...]) -> None:
    if name.endswith(".zip"):
        raise UserError(f"{entry} is an archive: name a file in it after a #, as in '{name}#a{endings[0]}'")
    if name.endswith(ARCHIVES):
        raise UserError(f"{entry} is an archive of another kind than .zip: unpack it and give the file or folder")
    if not name.endswith(endings):
        raise UserError(f"{entry} cannot be read as text: wanted a name that ends in {' '.join(endings)}")


def _readable_files(files: list[Path], folder: Path, endings: tuple[str, ...]) -> list[_FoundFile]:
    """Return the readable files, sorted by name.

    Names are relative to the folder.
    """
    readable = [file for file in files if file.name.endswith(endings) and file.is_file()]
    if len(readable) < len(files):
        n_skipped, wanted = len(files) - len(readable), " ".join(endings)
        log.info(f"skipped {n_skipped} of {len(files)} files in {folder}: not regular files, or not ending in {wanted}")
    named = [_FoundFile(file, file.relative_to(folder).as_posix()) for file in readable]
    return sorted(named, key=lambda file: file.name)


def _walk(folder: Path, key: str) -> list[Path]:
    """Return every file below a folder except hidden ones.

    Hidden files belong to editors and version control.

    Raises:
        UserError: a folder cannot be read; its files would be missing without a word.
    """

    def refuse(error: OSError) -> None:
        name = _one_line(error.filename)
        raise UnusablePathError(
            f"{key}: the folder {name} cannot be read ({error.strerror}): allow it, or give another path"
        )

    paths = []
    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [Path(parent, name) for name in files if not name.startswith(".")]
    return paths


def _fixed_folder(pattern: Path) -> Path:
    """Return the folder before a glob's first wildcard."""
    while glob.has_magic(str(pattern)):
        pattern = pattern.parent
    return pattern


def _suggestion(path: Path) -> str:
    """Return similar names, for a missing path's message."""
    if not path.parent.is_dir():
        return f", nor a folder {_one_line(path.parent)}: check the path"
    return nearest(path.name, filter(str.isprintable, os.listdir(path.parent)), n_most=3) or ": check the path"
