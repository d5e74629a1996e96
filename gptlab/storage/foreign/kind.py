"""What a row of the table of foreign files is, and how it recognises one."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from gptlab.storage.foreign.glimpse import Glimpse

READABLE = ("model.safetensors", "pytorch_model.bin", "model.safetensors.index.json", "pytorch_model.bin.index.json")


class Kind(NamedTuple):
    """A row of the table.

    A reader that is added takes the place of its row's sentence.
    """

    name: str
    matches: Callable[[Glimpse], Any]
    sentence: str | Callable[[Glimpse], str]  # follows the path: what it is, that gptlab does not read it, what to do


def begins(*beginnings: bytes) -> Callable[[Glimpse], bool]:
    """Match a file with one of these first bytes, in any case and after blanks."""
    return lambda seen: seen.first_bytes.lstrip().lower().startswith(tuple(one.lower() for one in beginnings))


def has(*words: str) -> Callable[[Glimpse], bool]:
    """Match a torch file with all of these keys or names."""
    return lambda seen: seen.words.issuperset(words)


def has_name(pattern: str) -> Callable[[Glimpse], bool]:
    """Match a torch file with a key or name like this."""
    return lambda seen: any(re.fullmatch(pattern, word) for word in seen.words)


def ends(*endings: str) -> Callable[[Glimpse], bool]:
    """Match a file whose name ends like this."""
    return lambda seen: seen.path.name.lower().endswith(endings)


def holds(*endings: str) -> Callable[[Glimpse], bool]:
    """Match a folder with a file of such a name, and without weights that gptlab reads."""
    return lambda seen: bool(seen.ending(*endings)) and not seen.names.intersection(READABLE)


def is_run(folder: Path) -> bool:
    """Return whether a folder is a run of gptlab's."""
    return any((folder / "checkpoints" / name).is_file() for name in ("best.ckpt", "last.ckpt"))


HERE = "gptlab does not read it"
