"""Names of special tokens in messages, which stay text.

While a prompt style writes a message, a private character stands for each name in it: a sign. So a name that the style
writes is told from one that a user typed, whatever the style does to the words.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from gptlab.prompts.process import RefusalError
from gptlab.prompts.protocol import Message, Piece, Turn

SIGNS = range(0xF0000, 0xFFFFE)  # code points of private characters

Signs = Mapping[str, str]  # name of a special token -> the character that stands for it
Given = tuple[Sequence[Turn], Sequence[dict[str, Any]] | None]  # messages and tools


def write_with_signs(
    write: Callable[[Given], list[list[Piece]]], given: Given, names: Sequence[str]
) -> tuple[list[list[Piece]], Signs]:
    """Return what a style writes, and the signs in it.

    A name is left as it is if its sign changes anything else: a template may look for it, as for `</think>`.

    Args:
        names: of the tokenizer's special tokens.
    """
    plain = write(given)
    texts = "\0".join(_texts(given))
    free = (chr(point) for point in SIGNS if chr(point) not in texts)
    signs = dict(zip(sorted({*any_of(tuple(names)).findall(texts)}), free, strict=False))
    hidden: dict[str, str] = {}
    written = plain
    for more in (signs, *({name: sign} for name, sign in signs.items())):
        if more.keys() <= hidden.keys():
            continue
        attempt = hidden | more
        try:
            rows = write(_replace(given, attempt))
        except RefusalError:  # the template wants the name
            continue
        if [[_revealed(piece, attempt) for piece in pieces] for pieces in rows] == plain:
            hidden, written = attempt, rows
    return written, hidden


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts in messages, tools or any part of them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def _replace(value: Any, signs: Signs) -> Any:
    """Return the same with signs in place of names."""
    if isinstance(value, str):
        return any_of(tuple(signs)).sub(lambda name: signs[name[0]], value)
    if isinstance(value, dict):
        return {key: _replace(part, signs) for key, part in value.items()}
    if isinstance(value, Message):
        return Message(*(_replace(part, signs) for part in value))
    if isinstance(value, list | tuple):
        return type(value)(_replace(part, signs) for part in value)
    return value


def _revealed(piece: Piece, signs: Signs) -> Piece:
    """Return a piece with names in place of signs."""
    text = piece.text
    for name, sign in signs.items():
        text = text.replace(sign, name)
    return piece._replace(text=text)


@lru_cache(maxsize=16)
def any_of(texts: tuple[str, ...]) -> re.Pattern[str]:
    """Return a pattern of any of these texts, the longest first."""
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))) or "(?!)")
