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
    return {
        "path": None if path is None else str(path.absolute()),
        "hub": None if hub is None else list(hub),
        "sha256": [[file.name, _sha256(file)] for file in files],
    }


def find_base(base: Base, checkpoint: Path) -> str | None:
    """Where they lie now: at their path, else as `base` in the folder of the run; None if they can only be fetched.

    Args:
        checkpoint: the one that names them.

    Raises:
        FileNotFoundError: they are not there.
        ValueError: they are a run's, which has learned on since.
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
    noted = place.with_name(f"{place.name}.sha256")  # which our checkpoints have beside them: nothing need be hashed
    if noted.is_file() and base["sha256"][0][1] not in noted.read_text(encoding="utf-8"):
        raise ValueError(f"{place} is no longer what the run of {checkpoint} began with: {_WHAT_NOW}")
    return str(place)


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


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
