"""A file out of a zip archive, taken out once."""

import hashlib
import zipfile
from pathlib import Path

from gptlab.data.disk import making, replacing


def take_out(archive: Path, member: str, *, sha256: str | None, folder: Path) -> Path:
    """The member of this name, or of this name without its ending, which then only says how to read it.

    Args:
        sha256: of the member; None takes what is there.
        folder: where it is kept.

    Raises:
        FileNotFoundError: there is no such archive, or no such member.
        ValueError: it is no whole zip file, or the member has another sha256.
    """
    if not archive.is_file():
        raise FileNotFoundError(f"data.path: there is no {archive}.")
    stat = archive.stat()
    key = hashlib.sha256(f"{archive.absolute()} {stat.st_size} {stat.st_mtime_ns} {member} {sha256}".encode())
    path = folder / f"{key.hexdigest()[:16]}-{Path(member).name}"
    with making(path):
        if not path.exists():
            content = _read(archive, member)
            if sha256 is not None and (found := hashlib.sha256(content).hexdigest()) != sha256:
                raise ValueError(
                    f"{member} in {archive} has the sha256 {found}, but data.sha256 is {sha256}: set data.sha256=null "
                    "to take it as it is."
                )
            with replacing(path) as temporary:
                temporary.write_bytes(content)
    return path


def _read(archive: Path, member: str) -> bytes:
    try:
        with zipfile.ZipFile(archive) as opened:
            there = opened.namelist()
            name = next((name for name in (member, str(Path(member).with_suffix(""))) if name in there), None)
            if name is None:
                raise FileNotFoundError(f"data.path: {archive} holds no {member}; there are {', '.join(there)}.")
            return opened.read(name)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{archive} is not a whole zip file ({error}); pack or fetch it again.") from error
