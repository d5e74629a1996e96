"""The arguments that locate a dataset's files."""

import re
from pathlib import Path
from typing import NamedTuple

from gptlab.data.files.paths import TextFile, collect
from gptlab.errors import UserError
from gptlab.storage.excerpts import excerpt
from gptlab.storage.files import expand_path


class FileSource(NamedTuple):
    """The files of `data.path`, and how to fetch them."""

    path: str | list[str]  # a file, folder, glob, package://NAME/file or https:// address, or a list of them
    sha256: str | None  # of a download or a package's file; None accepts any content
    cache_dir: Path  # keeps downloads and members of archives
    max_expansion: float  # most unpacked bytes per byte of an archive or gzip file
    key: str = "data.path"  # the key of the path in messages

    @classmethod
    def of(cls, path: str | list[str], sha256: str | None, cache_dir: str, max_expansion: float) -> "FileSource":
        """Return the source with its cache folder expanded.

        Raises:
            UserError: `cache_dir` is not a valid path, or `sha256` no checksum.
        """
        if sha256 is not None and not re.fullmatch("[0-9a-f]{64}", sha256 := str(sha256).lower()):
            raise UserError(
                f"data.sha256 is {excerpt(sha256)}, wanted 64 hexadecimal digits, or null to accept any content"
            )
        return cls(path, sha256, expand_path(cache_dir, key="data.cache_dir"), max_expansion)

    def at(self, path: str | list[str], key: str) -> "FileSource":
        """Return a source of other files, without a sha256."""
        return self._replace(path=path, sha256=None, key=key)

    def collect(self, endings: tuple[str, ...]) -> list[TextFile]:
        """Return the files with these endings, downloaded if remote.

        Raises:
            UserError: see `collect` in paths.py, also for other errors.
        """
        return collect(
            self.path,
            endings=endings,
            sha256=self.sha256,
            cache_dir=self.cache_dir,
            max_expansion=self.max_expansion,
            key=self.key,
        )
