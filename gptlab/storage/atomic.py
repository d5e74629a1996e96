"""Small text files that others read while they are written."""

import os
from pathlib import Path


def atomic_write(path: Path, text: str) -> None:
    """Writes the file whole or not at all: no reader sees half of it, and a power cut leaves the old one or the new."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")  # several processes may write the same file
    part.unlink(missing_ok=True)  # the folder may be a stranger's, and this a link to a file of the user's
    with part.open("x", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
