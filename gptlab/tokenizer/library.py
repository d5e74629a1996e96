"""The `tokenizers` library on files that may come from anybody: whatever it raises becomes a ValueError."""

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

import tokenizers

from gptlab.errors import UserError

MOST_IDS = 1 << 22  # a file that tells of more is wrong: the largest vocabularies have 262,144
MAX_GROWTH = 100  # times as long as it was may a text become before it is cut; replacements one after another multiply


class Calling:
    """Around a call of a library that is written in Rust: a UserError for its errors and its panics.

    Args:
        what: what went wrong then.
    """

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if isinstance(error, Exception) or _is_panic(error):
            raise UserError(f"{self.what} ({' '.join(str(error).split()):.300})") from error


def _is_panic(error: BaseException | None) -> bool:
    """Whether it is a panic of Rust's, which is no Exception, and whose class has no place to be imported from."""
    return type(error).__name__ == "PanicException"


def parse_tokenizer(content: str) -> tokenizers.Tokenizer:
    """Return the library's tokenizer, which cuts no text and fills none up, whatever its file says.

    Raises:
        UserError: the content describes none, or one that fails on every text.
    """
    with _silence(), Calling(f"tokenizers {tokenizers.__version__} cannot read it"):
        library = tokenizers.Tokenizer.from_str(content)
        library.no_truncation()
        library.no_padding()
        _check_growth(library)
        for special in (False, True):
            with suppress(Exception):  # it need not know these letters; but it must not panic
                library.encode("a b", add_special_tokens=special)
    return library


@contextmanager
def _silence() -> Iterator[None]:
    """Keep off the terminal what Rust reports of a panic before it is an exception."""
    try:
        kept = os.dup(2)
    except OSError:  # there is no terminal to be kept clean
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _check_growth(library: tokenizers.Tokenizer) -> None:
    for part in (library.normalizer, library.pre_tokenizer, library.decoder):
        if part is not None and (growth := _growth(json.loads(part.__getstate__()))) > MAX_GROWTH:
            raise UserError(f"it makes a text {growth:.3g} times as long, at most {MAX_GROWTH} times is read")


def _growth(part: dict[str, Any]) -> float:
    """How many times as long a text can become."""
    inner = [one for key in ("normalizers", "pretokenizers", "decoders") for one in part.get(key) or ()]
    if inner:
        return math.prod(map(_growth, inner))
    if part["type"] == "ByteLevel":
        return 2.0  # a character of two bytes becomes two
    if part["type"] == "Replace":
        replaced, new = part["pattern"].get("String"), len(part["content"])
        return max(1.0, new / len(replaced)) if replaced else 1.0 + new  # an expression may fit between any two
    return 1.0
