"""Files of torch that may come from anybody: looked through before they are loaded, and their tensors afterwards.

`torch.load(weights_only=True)` runs nobody's code, but it calls some functions of its own with whatever a file says:
`bytearray(10**12)` is one, and a tensor of a trillion numbers that repeats one number another.
"""

import os
import pickletools
import struct
import zipfile
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from gptlab.errors import UserError
from gptlab.storage.excerpts import excerpt
from gptlab.storage.files import open_regular

MAX_PICKLE_BYTES = 256 << 20  # of what a file says about its tensors; a tokenizer in it may have 35 MB
MAX_STEPS = 2_000_000  # of the pickle's machine: a vocabulary of 250,000 tokens takes a million
MAX_DEPTH = 64  # of values within values: Python compares deep keys without a check of its stack
_ORDERED = "collections OrderedDict"
_MADE = "an OrderedDict"  # what it gives: the only value to which attributes are given
CALLED = {  # what makes a tensor or a plain value, and takes no more memory than its arguments
    _ORDERED,
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "torch Size",
    "torch device",
    "builtins set",
    "__builtin__ set",
}
Value = str | int  # on the pickle's stack: the name of what may be called, else how deep the value is


def check_pickle(path: Path) -> None:
    """Look through a file of torch's for what takes memory or calls functions, before it is loaded.

    Raises:
        UserError: it is no whole zip file as torch has written since 1.6, or holds more than tensors and plain values.
        OSError: it cannot be read.
    """
    try:
        pickle = _read_pickle(path)
        _Machine(path).run(pickle)
    except (zipfile.BadZipFile, EOFError, struct.error, LookupError, RuntimeError, OverflowError) as error:
        raise _damaged(path, str(error)) from error
    except UnicodeError as error:
        raise _damaged(path, "a name in it is no text") from error


def check_tensors(content: Any, path: Path) -> None:
    """Compare the tensors in what was loaded with the numbers that are stored for them.

    Args:
        content: tensors in dicts, lists and tuples, however deep.

    Raises:
        UserError: a tensor says more numbers than the file holds, as one that repeats a number does.
    """
    waiting, seen = [content], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            if value.layout is not torch.strided or value.device.type != "cpu":
                raise UserError(f"{path} holds a tensor that is not stored plainly, number by number: save it so")
            if value.numel() * value.element_size() > value.untyped_storage().nbytes():
                shape = tuple(value.shape)
                raise UserError(f"{path} says more numbers than the file holds, for a tensor {shape}: fetch it anew")
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            waiting += value.values() if isinstance(value, dict) else value


def _damaged(path: Path, why: str) -> UserError:
    why = " ".join(why.split())
    return UserError(
        f"{path} is no whole file of torch 1.6 or later ({why:.100}): take another copy, or the model's safetensors"
    )


def _refused(path: Path, what: str) -> UserError:
    return UserError(
        f"{path} is a pickle with more than tensors in it ({what}), which could run anything, so it is not opened: "
        "take another copy of it, or the model's safetensors"
    )


def _read_pickle(path: Path) -> bytes:
    """What the file says about its tensors, as both zipfile and torch find it."""
    with open_regular(path) as raw:
        size = os.fstat(raw.fileno()).st_size
        with _open(raw, path) as archive:
            members = archive.infolist()
            names = [member.orig_filename for member in members]
            if not members or len({name.lower() for name in names}) < len(names) or not all(map(str.isascii, names)):
                raise _damaged(path, "its members have no names of their own")  # torch does not tell A from a
            if any(member.compress_type or member.file_size != member.compress_size for member in members):
                raise _damaged(path, "a member is packed")
            if sum(member.file_size for member in members) > size:
                raise _damaged(path, "its members overlap")
            name = f"{names[0].partition('/')[0]}/data.pkl"
            if name not in names:
                raise _damaged(path, f"it has no {name:.80}")
            if (n_bytes := archive.getinfo(name).file_size) > MAX_PICKLE_BYTES:
                raise _damaged(path, f"{n_bytes:,} bytes are said about its tensors, at most {MAX_PICKLE_BYTES:,} read")
            pickle = _read(archive, name, path)
    if torch._C.PyTorchFileReader(str(path)).get_record("data.pkl") != pickle:
        raise _damaged(path, "it can be read in two ways")
    return pickle


def _open(raw: IO[bytes], path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(raw)
    except (ValueError, OSError) as error:  # something is said to lie where no file has a place
        raise _damaged(path, str(error)) from error


def _read(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    try:
        return archive.read(name)
    except (ValueError, OSError) as error:
        raise _damaged(path, str(error)) from error


class _Machine:
    """Goes through a pickle without making anything, and sees what would be called."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stack: list[Value] = []
        self.outer: list[list[Value]] = []  # stacks below the marks
        self.memo: dict[int, Value] = {}

    def run(self, pickle: bytes) -> None:
        """Raise a UserError at the first operation that tensors and plain values do not need."""
        operations = pickletools.genops(pickle)
        for n_steps in range(MAX_STEPS):
            try:
                operation, argument, _ = next(operations)
            except StopIteration:
                return
            except ValueError as error:  # an unknown operation, or one that is cut off
                raise _damaged(self.path, f"step {n_steps:,}: {error}") from error
            self._step(operation.name, argument)
        raise _damaged(self.path, f"more than {MAX_STEPS:,} steps describe its tensors")

    def _step(self, name: str, argument: Any) -> None:
        if name in _MAKES:
            self._make(self._take(_MAKES[name]))
        elif name in _FILLS:
            self._make(self._take(_FILLS[name]))
            self.stack.pop()  # it is checked, and what it is put into stays
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name == "MARK":
            self.outer.append(self.stack)
            self.stack = []
        elif name == "GLOBAL":
            self.stack.append(argument)
        elif name == "REDUCE":
            _, function = self.stack.pop(), self.stack.pop()
            if function not in CALLED:
                raise _refused(self.path, excerpt(function))
            self.stack.append(_MADE if function == _ORDERED else 1)
        elif name == "BUILD" and self.stack[-2] == _MADE:
            self.stack.pop()
        elif name not in ("PROTO", "STOP"):
            raise _refused(self.path, f"an operation {name}")

    def _take(self, n: int | None) -> list[Value]:
        """The last n values; None is all since the mark."""
        if n is None:
            taken, self.stack = self.stack, self.outer.pop()
            return taken
        return [self.stack.pop() for _ in range(n)]

    def _make(self, parts: list[Value]) -> None:
        depth = 1 + max((part for part in parts if isinstance(part, int)), default=0)
        if depth > MAX_DEPTH:
            raise _refused(self.path, f"values within values, more than {MAX_DEPTH} deep")
        self.stack.append(depth)


_PLAIN = (
    *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"),
    *("SHORT_BINSTRING", "EMPTY_LIST", "EMPTY_TUPLE", "EMPTY_DICT"),
)
# operation -> of how many values it makes one, or puts them into one; None is all since the mark
_MAKES = {**dict.fromkeys(_PLAIN, 0), "TUPLE": None, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "BINPERSID": 1}
_FILLS = {"APPEND": 1, "SETITEM": 2, "APPENDS": None, "SETITEMS": None}
