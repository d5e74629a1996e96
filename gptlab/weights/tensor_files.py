"""Tensor files: safetensors and PyTorch pickles, whole or in shards."""

import json
import math
import os
import pickle
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gptlab.errors import MissingFileError, UserError
from gptlab.storage.excerpts import excerpt
from gptlab.storage.files import open_regular, read_object
from gptlab.storage.tensors import check_pickle, check_tensors

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
FILES = ("model.safetensors", "pytorch_model.bin")  # the first that exists, whole or as shards with an .index.json
MAX_HEADER_BYTES = 32 << 20  # of a safetensors file; 100,000 tensors need 12 MB
CHUNK_NUMEL = 1 << 22  # numbers of a file in memory at once: 16 MB of float32


def matrix_dtype(dtypes: Iterable[torch.dtype | None]) -> torch.dtype:
    """Return the narrowest dtype that holds matrices of these dtypes exactly, at most float32.

    It is float32 too if there are none, as those of an adapter that is merged.
    """
    found = set(dtypes)
    return found.pop() if found in ({torch.bfloat16}, {torch.float16}) else torch.float32  # type: ignore[return-value]


class StoredTensor(NamedTuple):
    """A tensor in a file, not yet read."""

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype | None  # None for a dtype outside DTYPES

    def chunks(self, n_rows: int) -> Iterator[tuple[slice, Tensor]]:
        """Yield the first rows in chunks, on the CPU.

        A chunk is a mapping of the file, closed when the chunk is deleted.
        """
        step = max(1, CHUNK_NUMEL // math.prod(self.shape[1:]))
        for start in range(0, n_rows, step):
            stop = min(start + step, n_rows)
            yield slice(start, stop), self._rows(start, stop)

    def _rows(self, start: int, stop: int) -> Tensor:
        if self.file.suffix == ".safetensors":
            with safe_open(self.file, "pt") as file:
                return file.get_slice(self.name)[start:stop]
        return _load_pickle(self.file)[self.name][start:stop]


def find_tensors(folder: Path) -> list[StoredTensor]:
    """List the tensors in a folder's weight files without reading them.

    Raises:
        FileNotFoundError: there are no weights, or a shard is missing.
        UserError: a file is damaged, or a pickle holds more than tensors.
    """
    for name in FILES:
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return _list_tensors(folder / name)
        if index.is_file():
            return [tensor for file in _shards(index) for tensor in _list_tensors(file)]
    raise MissingFileError(
        f"{folder} holds no weights: it needs {FILES[0]} or {FILES[1]}, whole or in shards with an .index.json"
    )


def _shards(index: Path) -> list[Path]:
    weight_map = read_object(index).get("weight_map")
    if not isinstance(weight_map, dict):
        raise UserError(f"{index} has no weight_map: fetch it again")
    for name in weight_map.values():
        if not isinstance(name, str) or Path(name).name != name or not name.isprintable() or len(name) > 255:
            raise UserError(
                f"{index}: weight_map names {excerpt(name)}, which is no file of the folder: fetch it again"
            )
    files = [index.parent / name for name in sorted(set(weight_map.values()))]
    for file in files:
        if not file.is_file():
            raise MissingFileError(
                f"{file}, named in {index.name}, is missing: fetch it from where the other shards are"
            )
    return files


def _list_tensors(file: Path) -> list[StoredTensor]:
    if file.suffix != ".safetensors":
        floats = {dtype: dtype for dtype in DTYPES.values()}
        check_pickle(file)
        tensors = _load_pickle(file)
        check_tensors(tensors, file)
        return [StoredTensor(file, name, tuple(x.shape), floats.get(x.dtype)) for name, x in tensors.items()]
    _check_header(file)
    try:
        with safe_open(file, "pt") as opened:
            parts = [(name, opened.get_slice(name)) for name in opened.keys()]  # noqa: SIM118  # not a dict
            return [StoredTensor(file, name, tuple(x.get_shape()), DTYPES.get(x.get_dtype())) for name, x in parts]
    except SafetensorError as error:
        raise UserError(f"{file} is not a whole safetensors file ({error}): fetch it again") from error


def _check_header(file: Path) -> None:
    """Raise a UserError if a safetensors file claims a huge header.

    The library would read up to 100 MB.
    """
    with open_regular(file) as raw:
        n_bytes = int.from_bytes(raw.read(8), "little")
    if n_bytes > MAX_HEADER_BYTES:
        raise UserError(
            f"{file} is not a whole safetensors file (a header of {n_bytes:,} bytes, at most {MAX_HEADER_BYTES:,} are "
            "read): fetch it again"
        )


def _load_pickle(file: Path) -> dict[str, Tensor]:
    """Map a pickle's tensors into memory without running code."""
    try:
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{file} is a pickle that could run code, so it is not opened: take the model's safetensors"
        ) from error
    except Exception as error:  # torch raises many types for a damaged or too old file
        raise UserError(
            f"{file} is not a whole file of torch 1.6 or later ({type(error).__name__}): fetch it again, or take the "
            "model's safetensors"
        ) from error
    named = isinstance(content, dict) and all(isinstance(name, str) for name in content)
    if not named or not all(isinstance(x, Tensor) for x in content.values()):
        raise UserError(f"{file} is not a dict of tensors by name: give a model's weights")
    return content


def write_safetensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file, one tensor in memory at a time.

    The library's own writer needs contiguous copies of all tensors at once. The format: the header's length as 8 bytes,
    the header in JSON, spaces up to a multiple of 8, the numbers.
    """
    names = {dtype: name for name, dtype in DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": names[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            file.write(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        file.flush()
        os.fsync(file.fileno())
