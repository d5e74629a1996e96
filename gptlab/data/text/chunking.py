"""Cutting long text into pieces that can be cleaned and tokenised one by one, as if they were whole.

A piece ends only before a single space or newline that stands between two letters or digits. No cleaning function looks
across such a place, and no token of a GPT-2-like pattern spans it: one word ends there, and the space begins the next.
"""

import itertools
import re
from collections.abc import Iterable, Iterator

PIECE = 1 << 18  # characters, about what a piece has
LIMIT = 1 << 20  # characters without a safe place after which a piece is cut anywhere, so that memory stays bounded

# To `re` an underscore is part of a word; to tokenizers it is punctuation, and some join that to a newline.
SAFE_PLACE = re.compile(r"(?<=[^\W_])[ \n](?=[^\W_])")


def cut(blocks: Iterable[str], *, size: int = PIECE, limit: int = LIMIT) -> Iterator[tuple[str, bool]]:
    """(piece, whether it is the last) of one document, which comes in blocks that were cut anywhere."""
    held, start = "", 0
    for block in blocks:
        held, start = held[start:] + block, 0
        while (end := _next_cut(held, start + size, start + limit)) is not None:
            yield held[start:end], False
            start = end
    yield held[start:], True


def _next_cut(held: str, wanted: int, limit: int) -> int | None:
    """The first safe place from `wanted` on, else `limit`; None if more text must be read first."""
    place = SAFE_PLACE.search(held, wanted, limit)
    if place:
        return place.start()
    return limit if len(held) > limit else None


def blocks_of(text: str, size: int = LIMIT) -> Iterator[str]:
    """A text that is in memory already, in blocks."""
    return (text[start : start + size] for start in range(0, len(text), size))


def split_documents(blocks: Iterable[str], separator: str) -> Iterator[Iterator[str]]:
    """The documents between separators, each as blocks; use up one before asking for the next."""
    for _, document in itertools.groupby(_numbered(blocks, separator), key=lambda block: block[0]):
        yield (text for _, text in document)


def _numbered(blocks: Iterable[str], separator: str) -> Iterator[tuple[int, str]]:
    """(document's number, a block of it). What may be the beginning of a separator is held back until more is read."""
    number, held = 0, ""
    for block in blocks:
        *ended, held = (held + block).split(separator)
        for text in ended:
            yield number, text
            number += 1
        clear = max(0, len(held) - len(separator) + 1)
        yield number, held[:clear]
        held = held[clear:]
    yield number, held
