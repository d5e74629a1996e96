"""Rules about text that all tokenizers share.

T tokens.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from gptlab.errors import UserError
from gptlab.tokenizer.protocol import EncodedParts, Tokenizer

END_OF_TEXT = "<|endoftext|>"  # text of the end-of-text id; the same characters in a text stay text
UNKNOWN = "<|unk|>"


def unused_name(i: int) -> str:
    """Return the name of an id without a token.

    A model may still sample the id.
    """
    return f"<|unused_{i}|>"


def encode_unicode(text: str, encoding: str) -> bytes:
    """Encode a text as Unicode bytes.

    Raises:
        UserError: the text holds half of a surrogate pair, which is not a character and has no bytes in UTF-8.
    """
    try:
        return text.encode(encoding)
    except UnicodeEncodeError as error:
        raise UserError(
            f"the text holds {text[error.start]!r} at position {error.start:,}, half of a surrogate pair, which is no "
            "character: read the file as UTF-8 with errors='replace', or remove it"
        ) from None


def prepend_bos(tokenizer: Tokenizer, prompt: list[int]) -> list[int]:
    """Prepend the tokenizer's bos_id to a prompt.

    Without a bos_id, an empty prompt becomes <|endoftext|>.

    Raises:
        UserError: the prompt is empty, and the tokenizer has no <|endoftext|>.
    """
    if tokenizer.bos_id is not None:
        return [tokenizer.bos_id, *prompt]
    if prompt:
        return prompt
    if tokenizer.eot_id is None:
        raise UserError("the prompt is empty, and the tokenizer has no <|endoftext|> to begin with: give a prompt")
    return [tokenizer.eot_id]


def encode_stretches(parts: Sequence[str | int], encode: Callable[[str], EncodedParts]) -> EncodedParts:
    """Return the ids of a text that is encoded anew after each special token.

    Args:
        parts: texts, and ids of special tokens.
        encode: gives the ids and spans of a text.
    """
    whole, at, stretch = EncodedParts([], [], []), 0, ""
    for part in [*parts, None]:
        if isinstance(part, str):
            stretch += part
            continue
        whole, at, stretch = whole.followed_by(encode(stretch), at=at), at + len(stretch), ""
        if part is not None:
            whole, at = whole.followed_by(EncodedParts([part], [0], [1]), at=at), at + 1
    return whole


def byte_spans(text: str, sizes: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the characters at which tokens begin and end.

    Args:
        text: the text of the tokens.
        sizes: bytes of each token, all above 0, in sum those of the text.
    """
    raw = np.frombuffer(text.encode(), dtype=np.uint8)
    character_of = np.cumsum((raw & 0xC0) != 0x80) - 1  # of each byte; all bytes but a character's first are 10xxxxxx
    ends = np.cumsum(sizes, dtype=np.int64)  # (T,) in bytes
    return character_of[ends - np.array(sizes, dtype=np.int64)].tolist(), (character_of[ends - 1] + 1).tolist()


def spans(offsets: Iterable[tuple[int, int]], length: int) -> tuple[list[int], list[int]]:
    """Return the library's offsets as spans that are not empty."""
    starts = [min(start, length - 1) for start, _ in offsets]
    return starts, [max(end, start + 1) for start, (_, end) in zip(starts, offsets, strict=True)]
