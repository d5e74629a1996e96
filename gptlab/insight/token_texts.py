"""The texts of tokens: their part of a text, and what they are in the vocabulary.

T tokens.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from gptlab.tokenizer.protocol import Tokenizer

N_BEFORE = 8  # tokens that a token is decoded after, where it has no bytes of its own


def token_pieces(tokenizer: Tokenizer, ids: Sequence[int]) -> list[bytes]:
    """Return each token's part of the text's UTF-8 bytes, special tokens by their names.

    Where the tokenizer does not say how long its tokens are, a character that is divided among several tokens belongs
    to the last of them.
    """
    special, sizes = set(tokenizer.special_ids().values()), tokenizer.token_bytes()
    pieces: list[bytes] = []
    start = 0
    for end in [*(i for i, token in enumerate(ids) if token in special), len(ids)]:
        pieces += _plain_pieces(tokenizer, ids[start:end], sizes)
        pieces += [tokenizer.decode([token]).encode() for token in ids[end : end + 1]]
        start = end + 1
    return pieces


def _plain_pieces(tokenizer: Tokenizer, ids: Sequence[int], sizes: np.ndarray | None) -> list[bytes]:
    """Return the pieces of a stretch without special tokens."""
    raw = tokenizer.decode(ids).encode() if ids else b""
    lengths = [0 if sizes is None else int(sizes[token]) for token in ids]
    if sum(lengths) == len(raw):
        ends = [sum(lengths[: i + 1]) for i in range(len(ids))]
        return [raw[end - length : end] for end, length in zip(ends, lengths, strict=True)]
    return [piece.encode() for piece in _growing_pieces(tokenizer, ids)]


def _growing_pieces(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """Return what each token adds to the text of the few before it.

    A token that completes a character takes it from those before, whose bytes were none.
    """
    pieces: list[str] = []
    for i in range(len(ids)):
        start = max(0, i - N_BEFORE)
        before, now = (tokenizer.decode(ids[start:end]) if end > start else "" for end in (i, i + 1))
        same = next((at for at, (a, b) in enumerate(zip(before, now, strict=False)) if a != b), len(before))
        changed = len(before) - same
        for at in range(i - 1, -1, -1):
            n = min(changed, len(pieces[at]))
            pieces[at], changed = pieces[at][: len(pieces[at]) - n], changed - n
        pieces.append(now[same:])
    return pieces


def token_texts(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """Return the text that each token adds; together they are the text of all.

    A token that ends within a character adds nothing, and the one that completes it all of it.
    """
    texts, rest = [], b""
    for piece in token_pieces(tokenizer, ids):
        rest += piece
        try:
            text, rest = rest.decode(), b""
        except UnicodeDecodeError:
            text = ""
        texts.append(text)
    return texts


def vocabulary_texts(tokenizer: Tokenizer, ids: Iterable[int], *, anchor: int) -> dict[int, str]:
    """Return the texts of tokens of the vocabulary, with the blank that some begin with.

    Some tokenizers drop that blank at the beginning of a text, so a token is also decoded after another one.

    Args:
        anchor: the id of that other token.
    """
    before = tokenizer.decode([anchor])

    def text(token: int) -> str:
        alone, after = tokenizer.decode([token]), tokenizer.decode([anchor, token]).removeprefix(before)
        return after if after == f" {alone}" else alone

    return {token: text(token) for token in sorted(set(ids))}


def written(piece: bytes) -> str:
    """Return a piece as text, or its bytes in hexadecimal where it is no whole character."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return as_bytes(piece)


def as_bytes(piece: bytes) -> str:
    """Return bytes in hexadecimal."""
    return piece.hex(" ").upper()
