"""Recognition of files and folders that gptlab does not read.

It is tried only where the normal reader has refused a path, and executes nothing. This module does not import torch.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from gptlab.errors import UserError
from gptlab.storage.foreign.files import BROKEN, FILES, SINGLE
from gptlab.storage.foreign.folders import FOLDERS
from gptlab.storage.foreign.glimpse import Glimpse
from gptlab.storage.foreign.kind import READABLE, Kind

WEIGHTS = (
    *(".bin", ".ckpt", ".gguf", ".ggml", ".h5", ".msgpack", ".npy", ".npz", ".nemo", ".ot", ".onnx", ".pkl", ".pt"),
    *(".pth", ".safetensors", ".gz", ".tar", ".tgz", ".zip", ".part", ".crdownload", ".incomplete"),
)
OWN = ("config", "generation_config", "model", "pytorch_model", "tokenizer")  # how files of a model folder begin
N_FILES = 16  # of a folder, looked into


class Foreign(NamedTuple):
    """A recognised file or folder."""

    kind: str
    path: Path
    sentence: str


def recognise(path: Path) -> Foreign | None:
    """Return what another program's file or folder is, None if it is of no known kind.

    In a folder of no known kind the files are looked at. Beside weights that gptlab reads, files of other programs are
    common, so there only its own files count, and only if they are no weights at all.
    """
    if not path.exists():
        return None
    seen = Glimpse(path)
    if not seen.is_dir:
        return _first((*BROKEN, *FILES, *SINGLE), seen)
    if found := _first(FOLDERS, seen):
        return found
    own = [name for name in seen.ending(*WEIGHTS, ".json") if name.startswith(OWN)]
    others = [] if seen.names.intersection(READABLE) else seen.ending(*WEIGHTS)
    looks = [(BROKEN, own), ((*BROKEN, *FILES), others)]
    inner = (_first(kinds, Glimpse(path / name)) for kinds, names in looks for name in names[:N_FILES])
    return next(filter(None, inner), None)


@contextmanager
def recognised(path: Path) -> Iterator[None]:
    """Replace an error about a path by what it is, if gptlab knows it.

    Raises:
        UserError: the reader's own, or a sentence of the table.
    """
    try:
        yield
    except UserError as error:
        if found := recognise(path):
            raise UserError(found.sentence) from error
        raise


def _first(kinds: Iterable[Kind], seen: Glimpse) -> Foreign | None:
    """Return the first kind that matches, with its sentence."""
    kind = next((kind for kind in kinds if kind.matches(seen)), None)
    if kind is None:
        return None
    text = kind.sentence if isinstance(kind.sentence, str) else kind.sentence(seen)
    folder = seen.path if seen.is_dir else seen.path.parent
    for mark, place in {"{path}": seen.path, "{folder}": folder, "{name}": seen.path.name}.items():
        text = text.replace(mark, str(place))
    return Foreign(kind.name, seen.path, f"{seen.path} {text}")
