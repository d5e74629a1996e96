"""Base weights on which a run's checkpoints depend.

The checkpoint of an adapter (LoRA) or of preference training names its base weights by path and sha256.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gptlab.errors import MissingFileError, UserError
from gptlab.storage.checksum import file_sha256

MAX_LAYERS = 512  # of a model whose weights are not in the checkpoint

BaseRecord = Mapping[str, Any]  # plain values, as `describe_base` returns them


def describe_base(path: Path | None, files: Iterable[Path], *, hub: tuple[str, str] | None) -> dict[str, Any]:
    """Return the record of base weights for a checkpoint.

    Every file is read.

    Args:
        path: folder or checkpoint; None for randomly initialised weights.
        hub: name and commit of a downloaded model.
    """
    files = list(files)
    return {
        "path": None if path is None else str(path.absolute()),
        "hub": None if hub is None else list(hub),
        "sha256": [[file.name, file_sha256(file)] for file in files],
        "seen": [_seen(file) for file in files],  # files with the same stat are not read again
    }


def is_base_record(base: Any) -> bool:
    """Return whether plain values have the form of `describe_base`."""
    if not isinstance(base, dict) or not {"path", "hub", "sha256", "seen"} <= base.keys():
        return False
    path, hub, sums, seen = (base[key] for key in ("path", "hub", "sha256", "seen"))
    pairs = all(_pair(pair, str) for pair in sums) if isinstance(sums, list) else False
    times = all(_pair(pair, int) for pair in seen) if isinstance(seen, list) else False
    return isinstance(path, str | None) and (hub is None or _pair(hub, str)) and pairs and times


def _pair(value: Any, kind: type) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(item, kind) for item in value)


def find_base(base: BaseRecord, checkpoint: Path, *, own: bool) -> str | None:
    """Return the current path of the base weights.

    None stands for the hub. They lie at their recorded path, else as `base` in the run folder.

    Args:
        checkpoint: the checkpoint that names them.
        own: whether the user trained the run. For a stranger's run nothing is downloaded, and only its folder is read.

    Raises:
        FileNotFoundError: the weights are at neither place.
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
        raise MissingFileError(
            f"{checkpoint} needs its base weights, but {where} (sha256 {sums}): {back} them{hub}, "
            f"or a link to them, at {beside}"
        )
    return str(place)


def check_base_files(base: BaseRecord, files: Iterable[Path], *, checkpoint: Path, own: bool) -> None:
    """Compare the base's files with a checkpoint's record of them.

    Args:
        files: all files of the base, or the first ones.
        own: whether the user trained the run; then files with the recorded stat are not read again.

    Raises:
        UserError: a file has changed, for example because its run was resumed.
    """
    files = list(files)
    if len(files) > len(base["sha256"]) or len(base["seen"]) != len(base["sha256"]):
        raise UserError(f"{checkpoint} names other base files than there are: {REMEDY}")
    for file, (_, digest), seen in zip(files, base["sha256"], base["seen"], strict=False):
        if not (own and _seen(file) == list(seen)) and file_sha256(file) != digest:
            raise UserError(f"{file} has changed since the run of {checkpoint} began: {REMEDY}")


def check_n_layers(n_layers: Any, tensors: Mapping[str, Any]) -> None:
    """Raise an error for more layers than tensors.

    A model of that many layers might not fit into memory.

    Raises:
        UserError: n_layers is no int, or too large.
    """
    if not isinstance(n_layers, int) or n_layers > max(len(tensors), MAX_LAYERS):
        raise UserError(f"n_layers is {n_layers!r:.40}, but there are {len(tensors)} tensors")


def check_base_unchanged(base: BaseRecord, before: BaseRecord, *, run: Path) -> None:
    """Compare the base weights with those of an earlier record.

    Raises:
        UserError: the weights have changed.
    """
    now, then = ([digest for _, digest in record["sha256"]] for record in (base, before))
    if now != then:
        raise UserError(
            f"resume={run}: its base weights in {base['path']} have the sha256 {', '.join(now)}, but had "
            f"{', '.join(then)} when the run began: {REMEDY}"
        )


REMEDY = "restore the old file, or start a new run"


def _seen(path: Path) -> list[int]:
    """Return a file's size and modification time."""
    return [path.stat().st_size, path.stat().st_mtime_ns]
