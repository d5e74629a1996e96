"""The first weights of a run, named in its checkpoints where these are not enough without them."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gptlab.errors import UserError

MAX_LAYERS = 512  # of a model whose weights lie elsewhere

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


def is_base(base: Any) -> bool:
    """Return whether plain values have the form that `name_base` gives them."""
    if not isinstance(base, dict) or not {"path", "hub", "sha256", "seen"} <= base.keys():
        return False
    path, hub, sums, seen = (base[key] for key in ("path", "hub", "sha256", "seen"))
    pairs = all(_pair(pair, str) for pair in sums) if isinstance(sums, list) else False
    times = all(_pair(pair, int) for pair in seen) if isinstance(seen, list) else False
    return isinstance(path, str | None) and (hub is None or _pair(hub, str)) and pairs and times


def _pair(value: Any, kind: type) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(item, kind) for item in value)


def find_base(base: Base, checkpoint: Path, *, own: bool) -> str | None:
    """Return where the weights lie now: at their path, else as `base` in the folder of the run; None on the hub.

    Args:
        checkpoint: the one that names them.
        own: the user's own run names them; on another's word nothing is fetched, and no place read but the run's own.

    Raises:
        FileNotFoundError: they are not there.
    """
    run = checkpoint.absolute().parent
    beside = (run.parent if run.name == "checkpoints" else run) / "base"
    places = (Path(base["path"]), beside) if own else (beside,)
    place = next((place for place in places if place.exists()), None)
    if place is None and base["hub"] and own:
        return None
    if place is None:
        sums = ", ".join(f"{digest} {name}" for name, digest in base["sha256"])
        hub = f" ({base['hub'][0]}, revision {base['hub'][1]}, of the hub)" if base["hub"] else ""
        where = f"they are not at {base['path']}" if own else "they are not beside it (you did not train it)"
        back = "bring them back, or put" if own else "put"
        raise FileNotFoundError(
            f"{checkpoint} needs the weights that its run began with, and {where} (sha256 {sums}): {back} them{hub}, "
            f"or a link to them, at {beside}"
        )
    return str(place)


def check_seen(base: Base, files: Iterable[Path], *, checkpoint: Path, own: bool) -> None:
    """Compare files with what a checkpoint says of them.

    Args:
        files: the first ones that the base names, or all.
        own: files that are as the user's own run saw them are not read again.

    Raises:
        UserError: they have changed, a run's because it has learned on, say.
    """
    files = list(files)
    if len(files) > len(base["sha256"]) or len(base["seen"]) != len(base["sha256"]):
        raise UserError(f"{checkpoint} names other files as its base than are there: {_WHAT_NOW}")
    for file, (_, digest), seen in zip(files, base["sha256"], base["seen"], strict=False):
        if not (own and _seen(file) == list(seen)) and _sha256(file) != digest:
            raise UserError(f"{file} is no longer what the run of {checkpoint} began with: {_WHAT_NOW}")


def check_layers(n_layers: Any, tensors: Mapping[str, Any]) -> None:
    """Check that a record does not ask for more layers than it has tensors, which may be more than memory holds.

    Raises:
        UserError: it does.
    """
    if not isinstance(n_layers, int) or n_layers > max(len(tensors), MAX_LAYERS):
        raise UserError(f"n_layers is {n_layers!r:.40}, and there are {len(tensors)} tensors")


def check_base(base: Base, before: Base, *, run: Path) -> None:
    """Compares the weights with what a checkpoint says of them.

    Raises:
        UserError: they have changed.
    """
    now, then = ([digest for _, digest in which["sha256"]] for which in (base, before))
    if now != then:
        raise UserError(
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
