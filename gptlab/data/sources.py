"""What `data.path` names -> the files to read: a file, a folder, a glob, a package's file, an address.

`ARCHIVE.zip#MEMBER`, local or an address, is one file of an archive; data.sha256 is then the member's.
"""

import contextlib
import difflib
import glob
import gzip
import hashlib
import importlib.util
import logging
import os
import urllib.parse
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from gptlab.data.archive import take_out
from gptlab.data.download import download

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TextFile:
    """A file as it was when the corpus was collected."""

    path: Path
    name: str  # after which its documents are named
    size: int  # bytes
    mtime_ns: int
    sha256: str | None  # of what it must hold; None where that may be anything

    @contextlib.contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """The contents, unpacked.

        Raises:
            ValueError: it is no whole gzip file, or it changed since it was collected or while it is read.
            OSError: it cannot be read.
        """
        with self._open_raw() as raw:
            try:
                yield gzip.GzipFile(fileobj=raw) if self.path.suffix == ".gz" else raw  # type: ignore[misc]
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise ValueError(f"{self.path} is not a whole gzip file ({error}); pack or copy it again.") from error

    def verify(self) -> None:
        """Raises ValueError where the contents are not those that `sha256` promises."""
        if self.sha256 is None:
            return
        with self._open_raw() as raw:
            found = hashlib.file_digest(raw, "sha256").hexdigest()  # type: ignore[arg-type]
        if found != self.sha256:
            raise ValueError(
                f"{self.path} has the sha256 {found}, but data.sha256 is {self.sha256}: "
                "install the pinned version of the package, or set data.sha256=null to take the file as it is."
            )

    @contextlib.contextmanager
    def _open_raw(self) -> Iterator[IO[bytes]]:
        try:
            with self.path.open("rb") as raw:
                self._check_unchanged(os.fstat(raw.fileno()))
                yield raw
                self._check_unchanged(self.path.stat())
        except OSError as error:
            raise type(error)(f"{self.path} cannot be read: {error.strerror or error}.") from error

    def _check_unchanged(self, now: os.stat_result) -> None:
        if (now.st_size, now.st_mtime_ns) != (self.size, self.mtime_ns):
            raise ValueError(f"{self.path} changed while it was being read; run again when nothing writes to it.")


def collect(
    path: str | list[str], *, endings: tuple[str, ...], sha256: str | None, cache_dir: Path, key: str = "data.path"
) -> list[TextFile]:
    """Every file that `path` names: in the order given, a folder's and a glob's sorted by name, each file once.

    Args:
        key: what the path is called where it was given, for messages.

    Raises:
        ValueError: there is nothing to read; or a file named by itself is empty or has another ending.
        FileNotFoundError: there is no such file, folder or package.
        ConnectionError: a download failed.
    """
    paths = [path] if isinstance(path, str) else path
    if sha256 is not None and sum(map(_is_remote, paths)) > 1:
        raise ValueError(f"data.sha256 is the hash of one file, but {key} names several; set data.sha256=null.")
    found: dict[str, TextFile] = {}
    for each in paths:
        for file, name in _files(each, endings, sha256, cache_dir, key):
            stat = file.stat()
            wanted = sha256 if each.startswith("package://") else None  # a download was checked when it came
            entry = TextFile(file.absolute(), name, stat.st_size, stat.st_mtime_ns, wanted)
            found.setdefault(os.path.realpath(file), entry)
    if not found:
        raise ValueError(f"{key}={path} names no file that ends in {' '.join(endings)}.")
    return list(found.values())


def _is_remote(path: str) -> bool:
    return path.startswith(("https://", "http://", "package://"))


def _files(
    path: str, endings: tuple[str, ...], sha256: str | None, cache_dir: Path, key: str
) -> list[tuple[Path, str]]:
    """(file, name) of each file that one entry names."""
    archive, is_member, member = path.partition(".zip#")
    if is_member:
        _check_ending(f"{key}={path}", member, endings)
        downloads, wanted = cache_dir / "downloads", sha256 if _is_remote(path) else None
        remote = path.startswith(("https://", "http://"))
        whole = download(f"{archive}.zip", sha256=None, folder=downloads) if remote else Path(f"{archive}.zip")
        return [(take_out(whole.expanduser(), member, sha256=wanted, folder=downloads), member)]
    if path.startswith(("https://", "http://")):
        name = Path(urllib.parse.urlparse(path).path).name
        _check_ending(f"{key}={path}", name, endings)
        return [(download(path, sha256=sha256, folder=cache_dir / "downloads"), name)]
    local = _in_package(path, key) if path.startswith("package://") else Path(path).expanduser()
    if local.is_dir():
        return _fitting(_walk(local), local, endings)
    if local.exists():
        _check_ending(f"{key}={path}", local.name, endings)
        if local.stat().st_size == 0:
            raise ValueError(f"{local} is empty; {key} wants text.")
        return [(local, local.name)]
    if glob.has_magic(str(local)):
        matches = [Path(match) for match in glob.glob(str(local), recursive=True)]
        return _fitting([match for match in matches if match.is_file()], _plain_part(local), endings)
    raise FileNotFoundError(f"{key}: there is no {path}.{_near(local)}")


def _check_ending(entry: str, name: str, endings: tuple[str, ...]) -> None:
    if not name.endswith(endings):
        raise ValueError(f"{entry} cannot be read as text; wanted a name that ends in {' '.join(endings)}.")


def _fitting(files: list[Path], folder: Path, endings: tuple[str, ...]) -> list[tuple[Path, str]]:
    """Those that can be read, named from the folder on."""
    fitting = [file for file in files if file.name.endswith(endings)]
    if len(fitting) < len(files):
        skipped = len(files) - len(fitting)
        log.info("skipped %d of %d files in %s: they end in none of %s", skipped, len(files), folder, " ".join(endings))
    return sorted(((file, file.relative_to(folder).as_posix()) for file in fitting), key=lambda pair: pair[1])


def _walk(folder: Path) -> list[Path]:
    """Every file below the folder but hidden ones, where editors and version control keep theirs."""
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in files if not name.startswith(".")]
    return found


def _in_package(path: str, key: str) -> Path:
    """package://NAME/inside -> the path, found without importing the package: its code is not wanted."""
    name, _, inside = path.removeprefix("package://").partition("/")
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f'{key}={path}: {name} is not installed; pip install "gptlab[samples]" brings it.')
    return Path(spec.submodule_search_locations[0], inside)


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
