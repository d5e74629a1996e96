"""Checks of untrusted torch files, before and after loading.

`torch.load(weights_only=True)` runs no foreign code, but it calls some functions with arguments from the file. Two
examples that exhaust memory are `bytearray(10**12)` and a tensor of a trillion numbers that repeats one stored number.
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
from gptlab.storage.torch_internals import read_record

MAX_PICKLE_BYTES = 256 << 20  # size limit of the pickle that describes the tensors; a tokenizer in it may have 35 MB
MAX_STEPS = 2_000_000  # limit of the pickle's operations; a vocabulary of 250,000 tokens takes a million
MAX_DEPTH = 64  # limit of nesting: Python compares deeply nested keys without checking its stack
ORDERED_DICT = "collections OrderedDict"
ORDERED_DICT_VALUE = "an OrderedDict"  # the only value on the stack that may get attributes (BUILD)
ALLOWED_CALLS = {  # These create a tensor or plain value, and use as much memory as their arguments.
    ORDERED_DICT,
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "torch Size",
    "torch device",
    "builtins set",
    "__builtin__ set",
}
Value = str | int  # entry of the pickle's stack: a callable's name, or a value's nesting depth


def check_pickle(path: Path) -> None:
    """Scan a torch file's pickle before it is loaded.

    Raises:
        UserError: the file is not a whole torch file (format of 1.6 and later), or holds more than tensors and plain
            values.
        OSError: the file cannot be read.
    """
    try:
        pickle = _read_pickle(path)
        _PickleScanner(path).run(pickle)
    except (zipfile.BadZipFile, EOFError, struct.error, LookupError, RuntimeError, OverflowError) as error:
        raise _damaged(path, str(error)) from error
    except UnicodeError as error:
        raise _damaged(path, "a name in it is not a text") from error


def check_tensors(content: Any, path: Path) -> None:
    """Raise an error for a tensor with fewer stored numbers than elements.

    Args:
        content: tensors in nested dicts, lists and tuples.

    Raises:
        UserError: a tensor is not stored plainly, or repeats stored numbers.
    """
    waiting, seen = [content], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            if value.layout is not torch.strided or value.device.type != "cpu":
                raise UserError(f"{path} holds a tensor that is not a plain CPU tensor: save a dense one")
            if value.numel() * value.element_size() > value.untyped_storage().nbytes():
                shape = tuple(value.shape)
                raise UserError(f"{path} holds fewer numbers than its tensor of shape {shape} needs: fetch it again")
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            waiting += value.values() if isinstance(value, dict) else value


def _damaged(path: Path, reason: str) -> UserError:
    reason = " ".join(reason.split())
    return UserError(
        f"{path} is not a whole file of torch 1.6 or later ({reason:.100}): take another copy, or safetensors"
    )


def _refused(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path} is a pickle that could run code ({reason}), so it is not opened: take another copy of it, or the "
        "model's safetensors"
    )


def _read_pickle(path: Path) -> bytes:
    """Return the pickle in a torch file.

    It checks that zipfile and torch read the same bytes.
    """
    with open_regular(path) as raw:
        size = os.fstat(raw.fileno()).st_size
        with _open(raw, path) as archive:
            members = archive.infolist()
            names = [member.orig_filename for member in members]
            if not members or len({name.lower() for name in names}) < len(names) or not all(map(str.isascii, names)):
                raise _damaged(path, "its members have no distinct ASCII names")  # torch ignores the case of names
            if any(member.compress_type or member.file_size != member.compress_size for member in members):
                raise _damaged(path, "a member is compressed")
            if sum(member.file_size for member in members) > size:
                raise _damaged(path, "its members overlap")
            name = f"{names[0].partition('/')[0]}/data.pkl"
            if name not in names:
                raise _damaged(path, f"it has no {name:.80}")
            if (n_bytes := archive.getinfo(name).file_size) > MAX_PICKLE_BYTES:
                raise _damaged(path, f"its pickle has {n_bytes:,} bytes, wanted at most {MAX_PICKLE_BYTES:,}")
            pickle = _read(archive, name, path)
    if read_record(path, "data.pkl") != pickle:
        raise _damaged(path, "zipfile and torch read different pickles in it")
    return pickle


def _open(raw: IO[bytes], path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(raw)
    except (ValueError, OSError) as error:  # an offset outside the file
        raise _damaged(path, str(error)) from error


def _read(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    try:
        return archive.read(name)
    except (ValueError, OSError) as error:
        raise _damaged(path, str(error)) from error


class _PickleScanner:
    """Walks through a pickle's operations without executing them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stack: list[Value] = []
        self.outer: list[list[Value]] = []  # the stacks below each MARK
        self.memo: dict[int, Value] = {}

    def run(self, pickle: bytes) -> None:
        """Raise a UserError at the first operation that is not allowed.

        Only operations that tensors and plain values need are allowed.
        """
        operations = pickletools.genops(pickle)
        for n_steps in range(MAX_STEPS):
            try:
                operation, argument, _ = next(operations)
            except StopIteration:
                return
            except ValueError as error:  # an unknown or truncated operation
                raise _damaged(self.path, f"step {n_steps:,}: {error}") from error
            self._step(operation.name, argument)
        raise _damaged(self.path, f"its pickle has more than {MAX_STEPS:,} operations")

    def _step(self, name: str, argument: Any) -> None:
        if name in BUILDERS:
            self._push(self._pop(BUILDERS[name]))
        elif name in FILLERS:
            self._push(self._pop(FILLERS[name]))
            self.stack.pop()  # the container that they were added to stays on the stack
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
            if function not in ALLOWED_CALLS:
                raise _refused(self.path, excerpt(function))
            self.stack.append(ORDERED_DICT_VALUE if function == ORDERED_DICT else 1)
        elif name == "BUILD" and self.stack[-2] == ORDERED_DICT_VALUE:
            self.stack.pop()
        elif name not in ("PROTO", "STOP"):
            raise _refused(self.path, f"an operation {name}")

    def _pop(self, n: int | None) -> list[Value]:
        """Pop the last n values, or all since the last MARK."""
        if n is None:
            taken, self.stack = self.stack, self.outer.pop()
            return taken
        return [self.stack.pop() for _ in range(n)]

    def _push(self, parts: list[Value]) -> None:
        depth = 1 + max((part for part in parts if isinstance(part, int)), default=0)
        if depth > MAX_DEPTH:
            raise _refused(self.path, f"values nested more than {MAX_DEPTH} deep")
        self.stack.append(depth)


PLAIN = (
    *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"),
    *("SHORT_BINSTRING", "EMPTY_LIST", "EMPTY_TUPLE", "EMPTY_DICT"),
)
# operation -> number of values that it builds a new value from; None is all since the last MARK
BUILDERS = {**dict.fromkeys(PLAIN, 0), "TUPLE": None, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "BINPERSID": 1}
# operation -> number of values that it adds to a container
FILLERS = {"APPEND": 1, "SETITEM": 2, "APPENDS": None, "SETITEMS": None}
