"""Encoding of a conversation's pieces as ids.

T tokens.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from gptlab.errors import UserError
from gptlab.prompts.protocol import END_OF_TEXT, Message, Piece, PromptStyle
from gptlab.tokenizer.protocol import Tokenizer


class Encoded(NamedTuple):
    """The T ids of a conversation, and which are learned."""

    ids: list[int]
    learned: list[bool]  # whether the token is a target


class _Fragment(NamedTuple):
    """Text without special tokens in it, or one special token."""

    text: str
    learned: bool
    token: int | None


def encode_pieces(pieces: Sequence[Piece], tokenizer: Tokenizer) -> Encoded:
    """Return the ids of pieces, after the first token.

    A question has the same ids whatever its answer. Names of special tokens become those tokens in marks,
    and stay text in messages. Between special tokens and the borders of `learned` the text is tokenised in one go,
    marks and words together, as pretrained models saw it: in `[INST] Who` the blank belongs to the word.

    Raises:
        UserError: the tokenizer lacks the end of text that ends an answer, or cannot encode the text.
    """
    encoded = _encode(pieces, tokenizer)
    if tokenizer.bos_id is None or encoded.ids[:1] == [tokenizer.bos_id]:  # some templates write it themselves
        return encoded
    return Encoded([tokenizer.bos_id, *encoded.ids], [False, *encoded.learned])


def check_style(style: PromptStyle, tokenizer: Tokenizer) -> None:
    """Raise a UserError if the tokenizer cannot write the style."""
    turns = [Message("user", "a", "b"), Message("assistant", "c"), Message("user", "d"), Message("assistant", "e")]
    kind = tokenizer.state()["kind"]
    for piece in style.pieces(turns, answer_next=False):
        if piece == END_OF_TEXT and tokenizer.eot_id is None:
            raise UserError(
                f"prompt={style.name} ends an answer with the tokenizer's end of text, and the {kind} tokenizer has "
                "none: set tokenizer.end_of_text=true if it has that key, or choose another prompt="
            )
        if piece.marks and piece != END_OF_TEXT:
            decoded = tokenizer.decode(_encode([piece], tokenizer).ids)
            if decoded != piece.text:
                raise UserError(
                    f"prompt={style.name} writes {piece.text!r}, which the {kind} tokenizer decodes as {decoded!r}: "
                    "choose a tokenizer= that loses no text, such as bpe or gpt2, or another prompt="
                )


def _encode(pieces: Sequence[Piece], tokenizer: Tokenizer) -> Encoded:
    encoded = Encoded([], [])
    for (learned, special), alike in groupby(
        _fragments(pieces, tokenizer), key=lambda each: (each.learned, each.token)
    ):
        texts = [each.text for each in alike]
        new = tokenizer.encode("".join(texts)) if special is None else [special] * len(texts)
        encoded.ids.extend(new)
        encoded.learned.extend([learned] * len(new))
    return encoded


def _fragments(pieces: Sequence[Piece], tokenizer: Tokenizer) -> Iterator[_Fragment]:
    special = tokenizer.special_ids()
    names = "|".join(map(re.escape, sorted(special, key=len, reverse=True)))
    for piece in pieces:
        if piece == END_OF_TEXT:
            if tokenizer.eot_id is None:
                raise UserError(
                    "an answer ends with the end of text, and the tokenizer has none: choose another prompt="
                )
            yield _Fragment("", piece.learned, tokenizer.eot_id)
        elif piece.marks and names:
            for text in filter(None, re.split(f"({names})", piece.text)):
                yield _Fragment(text, piece.learned, special.get(text))
        else:
            yield _Fragment(piece.text, piece.learned, None)
