"""Cutting of long documents into chunks.

Chunks can be cleaned and tokenised one by one.

A chunk ends only before a single space or newline that stands between two letters or digits. No cleaning function looks
across such a place, and no token of a GPT-2-like pattern spans it: one word ends there, and the space begins the next.
So cleaning or tokenising the chunks gives the same as cleaning or tokenising the whole document.
"""

import itertools
import re
from collections.abc import Iterable, Iterator

CHUNK_CHARACTERS = 1 << 18  # a chunk is cut at the first safe place after this many
MAX_CHUNK_CHARACTERS = 1 << 20  # without a safe place a chunk is cut here, so that memory stays bounded

# `re` counts an underscore as part of a word; tokenizers count it as punctuation, and some join it to a newline.
SAFE_PLACE = re.compile(r"(?<=[^\W_])[ \n](?=[^\W_])")


def cut_chunks(
    blocks: Iterable[str], *, size: int = CHUNK_CHARACTERS, limit: int = MAX_CHUNK_CHARACTERS
) -> Iterator[tuple[str, bool]]:
    """Yield the chunks of one document.

    Each comes with a flag: whether it is the last.

    Args:
        blocks: the document's text, cut anywhere.
        size: characters after which the next safe place ends a chunk.
        limit: the most characters of a chunk.
    """
    held, start = "", 0
    for block in blocks:
        held, start = held[start:] + block, 0
        while (end := _next_cut(held, start + size, start + limit)) is not None:
            yield held[start:end], False
            start = end
    yield held[start:], True


def _next_cut(held: str, wanted: int, limit: int) -> int | None:
    """Return where to cut next, None to read more first.

    That is the first safe place from `wanted` on, else `limit`.
    """
    place = SAFE_PLACE.search(held, wanted, limit)
    if place:
        return place.start()
    return limit if len(held) > limit else None


def cut_blocks(text: str, size: int = MAX_CHUNK_CHARACTERS) -> Iterator[str]:
    """Yield a text in blocks of `size` characters."""
    return (text[start : start + size] for start in range(0, len(text), size))


def split_documents(blocks: Iterable[str], separator: str) -> Iterator[Iterator[str]]:
    """Yield the documents between separators, each as blocks.

    Consume each document before requesting the next.
    """
    for _, document in itertools.groupby(_number_blocks(blocks, separator), key=lambda block: block[0]):
        yield (text for _, text in document)


def _number_blocks(blocks: Iterable[str], separator: str) -> Iterator[tuple[int, str]]:
    """Yield each block with its document's number.

    An end of text that may be the beginning of a separator is held back until more text is read.
    """
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
