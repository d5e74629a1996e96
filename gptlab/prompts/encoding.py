"""A conversation's pieces as ids.   T tokens."""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from gptlab.errors import UserError
from gptlab.prompts.protocol import END_OF_TEXT, Message, Piece, PromptStyle
from gptlab.tokenizer.protocol import Tokenizer


class Encoded(NamedTuple):
    """A conversation as a model reads it, T entries each."""

    ids: list[int]
    learned: list[bool]  # whether a model learns to write the token


class _Part(NamedTuple):
    """Text without special tokens in it, or one special token."""

    text: str
    learned: bool
    token: int | None


def encode_pieces(pieces: Sequence[Piece], tokenizer: Tokenizer) -> Encoded:
    """The ids, begun as the tokenizer begins a text: those of a question are the same before any answer.

    In marks the names of special tokens are those tokens; in people's words they are text. Between special tokens and
    the borders of what is learned the text is tokenised in one go, marks and words together, as models were taught it:
    in `[INST] Who` the blank is the word's.

    Raises:
        UserError: an answer ends with the end of text, and the tokenizer has none; what it cannot encode.
    """
    encoded = _encode(pieces, tokenizer)
    if tokenizer.bos_id is None or encoded.ids[:1] == [tokenizer.bos_id]:  # a template may have written it
        return encoded
    return Encoded([tokenizer.bos_id, *encoded.ids], [False, *encoded.learned])


def check_style(style: PromptStyle, tokenizer: Tokenizer) -> None:
    """A UserError that names the first mark of the style's that the tokenizer cannot express."""
    turns = [Message("user", "a", "b"), Message("assistant", "c"), Message("user", "d"), Message("assistant", "e")]
    kind = tokenizer.state()["kind"]
    for piece in style.pieces(turns, answer_next=False):
        if piece == END_OF_TEXT and tokenizer.eot_id is None:
            raise UserError(
                f"prompt={style.name} ends an answer with the tokenizer's end of text, and the {kind} tokenizer has "
                "none: set tokenizer.end_of_text=true where it has that key, or choose another prompt="
            )
        if piece.marks and piece != END_OF_TEXT:
            made = tokenizer.decode(_encode([piece], tokenizer).ids)
            if made != piece.text:
                raise UserError(
                    f"prompt={style.name} writes {piece.text!r}, of which the {kind} tokenizer makes {made!r}: choose "
                    "a tokenizer= that loses no text, such as bpe or gpt2, or another prompt="
                )


def _encode(pieces: Sequence[Piece], tokenizer: Tokenizer) -> Encoded:
    encoded = Encoded([], [])
    for (learned, special), alike in groupby(_parts(pieces, tokenizer), key=lambda part: (part.learned, part.token)):
        texts = [part.text for part in alike]
        new = tokenizer.encode("".join(texts)) if special is None else [special] * len(texts)
        encoded.ids.extend(new)
        encoded.learned.extend([learned] * len(new))
    return encoded


def _parts(pieces: Sequence[Piece], tokenizer: Tokenizer) -> Iterator[_Part]:
    special = tokenizer.special_ids()
    names = "|".join(map(re.escape, sorted(special, key=len, reverse=True)))
    for piece in pieces:
        if piece == END_OF_TEXT:
            if tokenizer.eot_id is None:
                raise UserError(
                    "an answer ends with the end of text, and the tokenizer has none: choose another prompt="
                )
            yield _Part("", piece.learned, tokenizer.eot_id)
        elif piece.marks and names:
            for text in filter(None, re.split(f"({names})", piece.text)):
                yield _Part(text, piece.learned, special.get(text))
        else:
            yield _Part(piece.text, piece.learned, None)
