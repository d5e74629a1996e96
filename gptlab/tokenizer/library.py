"""The `tokenizers` library on untrusted files."""

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import tokenizers

from gptlab.errors import UserError

MAX_IDS = 1 << 22  # files with more are rejected: the largest vocabularies have 262,144
MAX_GROWTH = 100  # factor by which a text may get longer; consecutive replacements multiply


@contextmanager
def library_errors(message: str) -> Iterator[None]:
    """Turn a Rust library's errors into a UserError.

    Its panics are caught too.

    Args:
        message: names the failed operation; the library's own message is appended.
    """
    try:
        yield
    except BaseException as error:
        if isinstance(error, Exception) or _is_panic(error):
            raise UserError(f"{message} ({' '.join(str(error).split()):.300})") from error
        raise


def _is_panic(error: BaseException) -> bool:
    """Return whether an error is a Rust panic.

    A panic is not an `Exception`, and its class cannot be imported.
    """
    return type(error).__name__ == "PanicException"


def parse_tokenizer(content: str) -> tokenizers.Tokenizer:
    """Return the library's tokenizer of a tokenizer.json.

    Truncation and padding are switched off, whatever the file says.

    Raises:
        UserError: the content is not a tokenizer, or fails on every text.
    """
    with _muted_stderr(), library_errors(f"tokenizers {tokenizers.__version__} cannot read it"):
        library = tokenizers.Tokenizer.from_str(content)
        library.no_truncation()
        library.no_padding()
        _check_growth(library)
        for special in (False, True):
            with suppress(Exception):  # a tokenizer may lack these letters, but must not panic
                library.encode("a b", add_special_tokens=special)
    return library


def ids_around(library: tokenizers.Tokenizer) -> tuple[list[int], list[int]]:
    """Return the ids that a post-processor puts before a text, and those after it.

    They are found by the letter a; the library's own error is raised if it cannot be encoded.
    """
    plain, whole = (library.encode("a", add_special_tokens=added).ids for added in (False, True))
    n_before = next(n for n in range(len(whole) + 1) if whole[n : n + len(plain)] == plain)
    return whole[:n_before], whole[n_before + len(plain) :]


@contextmanager
def _muted_stderr() -> Iterator[None]:
    """Discard stderr, where Rust prints panics."""
    try:
        kept = os.dup(2)
    except OSError:  # stderr is closed
        yield
        return
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def _check_growth(library: tokenizers.Tokenizer) -> None:
    for part in (library.normalizer, library.pre_tokenizer, library.decoder):
        if part is not None and (growth := _growth(json.loads(part.__getstate__()))) > MAX_GROWTH:
            raise UserError(f"it makes a text {growth:.3g} times as long, wanted at most {MAX_GROWTH} times")


def _growth(part: dict[str, Any]) -> float:
    """Return how much a component can lengthen a text.

    The result is a factor.
    """
    inner = [one for key in ("normalizers", "pretokenizers", "decoders") for one in part.get(key) or ()]
    if inner:
        return math.prod(map(_growth, inner))
    if part["type"] == "ByteLevel":
        return 2.0  # a character of two bytes becomes two
    if part["type"] == "Replace":
        replaced, new = part["pattern"].get("String"), len(part["content"])
        return (
            max(1.0, new / len(replaced)) if replaced else 1.0 + new
        )  # a regular expression may match between any two characters
    return 1.0
