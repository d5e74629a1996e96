"""The first weights of a run, named in its checkpoints where these are not enough without them."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Base = Mapping[str, Any]  # what a checkpoint says: plain values, as `name_base` gives them


def name_base(path: Path | None, files: Iterable[Path], *, hub: tuple[str, str] | None) -> dict[str, Any]:
    """Where the weights lie, and what they are; every file is read.

    Args:
        path: folder or checkpoint; None for weights that are drawn.
        hub: name and commit of a model that was fetched.
    """
    files = list(files)
    return {
        "path": None if path is None else str(path.absolute()),
        "hub": None if hub is None else list(hub),
        "sha256": [[file.name, _sha256(file)] for file in files],
        "seen": [_seen(file) for file in files],  # while it is so, nobody need read them again
    }


def find_base(base: Base, checkpoint: Path) -> str | None:
    """Where they lie now: at their path, else as `base` in the folder of the run; None if they can only be fetched.

    Args:
        checkpoint: the one that names them.

    Raises:
        FileNotFoundError: they are not there.
    """
    run = checkpoint.absolute().parent
    beside = (run.parent if run.name == "checkpoints" else run) / "base"
    place = next((place for place in (Path(base["path"]), beside) if place.exists()), None)
    if place is None and base["hub"]:
        return None
    if place is None:
        sums = ", ".join(f"{digest} {name}" for name, digest in base["sha256"])
        raise FileNotFoundError(
            f"{checkpoint} needs the weights that its run began with, and they are not at {base['path']} (sha256 "
            f"{sums}): bring them back, or put them, or a link to them, at {beside}"
        )
    return str(place)


def check_seen(base: Base, files: Iterable[Path], *, checkpoint: Path) -> None:
    """Compares the files that were found with what a checkpoint says of them; reads those that are not as they were.

    Raises:
        ValueError: they have changed, a run's because it has learned on, say.
    """
    for file, (_, digest), seen in zip(files, base["sha256"], base["seen"], strict=True):
        if _seen(file) != seen and _sha256(file) != digest:
            raise ValueError(f"{file} is no longer what the run of {checkpoint} began with: {_WHAT_NOW}")


def check_base(base: Base, before: Base, *, run: Path) -> None:
    """Compares the weights with what a checkpoint says of them.

    Raises:
        ValueError: they have changed.
    """
    now, then = ([digest for _, digest in which["sha256"]] for which in (base, before))
    if now != then:
        raise ValueError(
            f"resume={run}: its first weights, in {base['path']}, have sha256 {', '.join(now)}, and had "
            f"{', '.join(then)} when it began: {_WHAT_NOW}"
        )


_WHAT_NOW = "bring back what it was, or start a new run"


def _seen(path: Path) -> list[int]:
    """What changes with a file's content: bytes, and when it was written."""
    return [path.stat().st_size, path.stat().st_mtime_ns]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
