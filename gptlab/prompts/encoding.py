"""Encoding of a conversation's pieces as ids.

T tokens.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from gptlab.errors import UserError
from gptlab.prompts.names import Given, Signs, any_of, write_with_signs
from gptlab.prompts.protocol import END_OF_ROW, Message, Piece, PromptStyle, Turn
from gptlab.tokenizer.protocol import EncodedParts, Tokenizer

log = logging.getLogger(__name__)

WORDS = "What is 7 times 8?"  # a question that no style writes on its own


class Encoded(NamedTuple):
    """The T ids of a conversation, and which are learned."""

    ids: list[int]
    learned: list[bool]  # whether the token is a target


def question_ids(
    style: PromptStyle,
    messages: Sequence[Turn],
    tokenizer: Tokenizer,
    *,
    tools: Sequence[dict[str, Any]] | None = None,
) -> list[int]:
    """Return the ids that a model is asked with.

    The names of special tokens become those tokens, except in messages and tools, where they stay text.

    Raises:
        UserError: the style cannot write the messages, or the tokenizer cannot encode them.
    """

    def write(given: Given) -> list[list[Piece]]:
        return [style.question(given[0], tools=given[1])]

    [pieces], signs = write_with_signs(write, (messages, tools), list(tokenizer.special_ids()))
    return encode_pieces(pieces, tokenizer, signs=signs).ids


def encode_rows(style: PromptStyle, messages: Sequence[Message], tokenizer: Tokenizer) -> list[Encoded]:
    """Return the rows that a conversation teaches, see `PromptStyle.rows`.

    A row begins with the ids of `question_ids`, also where a token would span the border of question and answer. If
    that is not the last question of the row, each answer has a row of its own.

    Raises:
        UserError: as for `question_ids`.
    """

    def write(given: Given) -> list[list[Piece]]:
        return style.rows(given[0])  # type: ignore[arg-type]  # they were messages

    rows, signs = write_with_signs(write, (messages, None), list(tokenizer.special_ids()))
    return [encoded for pieces in rows for encoded in _encode_row(pieces, tokenizer, signs)]


def encode_pieces(pieces: Sequence[Piece], tokenizer: Tokenizer, *, signs: Signs) -> Encoded:
    """Return the ids of pieces, which are encoded as one text.

    A token is learned if any of its characters is.

    Args:
        signs: characters that stand for the names of special tokens that stay text.
    """
    parts, flags = _parts(pieces, tokenizer, signs)
    return _flagged(tokenizer.encode_parts(parts), flags)


def _flagged(encoded: EncodedParts, flags: Sequence[int]) -> Encoded:
    counts = [0, *accumulate(flags)]  # learned characters before each place
    spans = zip(encoded.starts, encoded.ends, strict=True)
    return Encoded(encoded.ids, [counts[start] < counts[end] for start, end in spans])


def _encode_row(pieces: Sequence[Piece], tokenizer: Tokenizer, signs: Signs) -> Iterator[Encoded]:
    """Yield the row of these pieces, or one for each answer."""
    parts, flags = _parts(pieces, tokenizer, signs)
    encoded = tokenizer.encode_parts(parts)
    answers = [i for i, (a, b) in enumerate(pairwise(pieces), start=1) if b.learned and not a.learned]
    spanned = []
    if pieces[-1] == END_OF_ROW and (_spans_borders(encoded, flags) or _ends_in_blanks(pieces, answers)):
        spanned = [i for i in answers if _changes(encoded.ids, pieces[:i], tokenizer, signs)]
    if spanned in ([], answers[-1:]):
        yield _cut(_flagged(encoded, flags), pieces, spanned, tokenizer, signs)
        return
    for i, after in pairwise([*answers, len(pieces)]):
        asked = [piece._replace(learned=False) for piece in pieces[:i]]
        answer = [piece for piece in pieces[i:after] if piece.learned and piece != END_OF_ROW]
        yield from _encode_row([*asked, *answer, END_OF_ROW], tokenizer, signs)


def _spans_borders(encoded: EncodedParts, flags: Sequence[int]) -> bool:
    """Return whether a token begins in a question and ends in its answer."""
    return any(flags[start] < flags[end - 1] for start, end in zip(encoded.starts, encoded.ends, strict=True))


def _ends_in_blanks(pieces: Sequence[Piece], answers: Sequence[int]) -> bool:
    """Return whether a question ends in several blanks, which GPT-2's pattern splits before a word."""
    return any(len(end := pieces[i - 1].text[-2:]) == 2 and end.isspace() for i in answers)


def _changes(ids: Sequence[int], asked: Sequence[Piece], tokenizer: Tokenizer, signs: Signs) -> bool:
    """Return whether a question alone has other ids than these begin with."""
    alone = encode_pieces(asked, tokenizer, signs=signs).ids
    return ids[: len(alone)] != alone


def _cut(row: Encoded, pieces: Sequence[Piece], spanned: Sequence[int], tokenizer: Tokenizer, signs: Signs) -> Encoded:
    """Return a row whose last question has the ids that it has alone.

    The row stays as it is where the tokenizer would put a blank between the question and the answer.
    """
    if not spanned:
        return row
    asked, answer = (
        encode_pieces(part, tokenizer, signs=signs) for part in (pieces[: spanned[0]], pieces[spanned[0] :])
    )
    begins_with_token = answer.ids[0] in {*tokenizer.special_ids().values()}
    if begins_with_token or tokenizer.encode("\na") == tokenizer.encode("\n") + tokenizer.encode("a"):
        return Encoded(asked.ids + answer.ids, asked.learned + answer.learned)
    return row


def check_style(style: PromptStyle, tokenizer: Tokenizer) -> None:
    """Raise a UserError if the tokenizer cannot write the style.

    Log a warning if a pretrained tokenizer has no tokens for a part of it.
    """
    kind = tokenizer.state()["kind"]
    if not style.stop and tokenizer.eot_id is None:
        raise UserError(
            f"prompt={style.name} ends an answer with the tokenizer's end of text, and the {kind} tokenizer has "
            "none: set tokenizer.end_of_text=true if it has that key, or choose another prompt="
        )
    if kind == "pretrained":  # its decoder may add blanks, or take them away
        parts, _ = _parts(style.question([Message("user", WORDS)]), tokenizer, {})
        if not any(isinstance(part, str) and WORDS in part for part in parts):
            raise UserError(f"prompt={style.name} does not write the words of a question: choose another prompt=")
        special = tokenizer.special_ids()
        unknown = {*tokenizer.encode_parts(parts).ids} & {*special.values()} - {i for i in parts if isinstance(i, int)}
        if unknown:
            log.warning(f"the tokenizer has no token for a part of prompt={style.name}, and reads it as unknown")
        return
    words = [piece.text for piece in style.question([Message("user", "", "")]) if piece.token is None]
    for text in ("".join(words), *style.stop):
        parts, _ = _parts([Piece(text, learned=False)], tokenizer, {})
        decoded = tokenizer.decode(tokenizer.encode_parts(parts).ids)
        if decoded != text:
            raise UserError(
                f"prompt={style.name} writes {text!r}, which the {kind} tokenizer decodes as {decoded!r}: "
                "choose a tokenizer= that loses no text, such as bpe or gpt2, or another prompt="
            )


def _parts(pieces: Sequence[Piece], tokenizer: Tokenizer, signs: Signs) -> tuple[list[str | int], bytearray]:
    """Return texts and ids of special tokens, and which places in them are learned.

    A character of a text is one place, and so is an id. No two texts stand next to each other.
    """
    parts: list[str | int] = []
    flags = bytearray()
    text, text_flags = "", bytearray()
    for piece in (*pieces, None):
        if piece is not None and piece.token is None:
            text += piece.text
            text_flags += bytes([piece.learned]) * len(piece.text)
            continue
        _split(text, text_flags, tokenizer.special_ids(), signs, parts, flags)
        text, text_flags = "", bytearray()
        token = None if piece is None else _token(piece, tokenizer, parts)
        if piece is not None and token is not None:
            parts.append(token)
            flags.append(piece.learned)
    return parts, flags


def _split(
    text: str,
    learned: bytearray,
    special: Mapping[str, int],
    signs: Signs,
    parts: list[str | int],
    flags: bytearray,
) -> None:
    """Append the parts of a text, and their flags."""
    names = {sign: name for name, sign in signs.items()}
    kept = ""
    start = 0
    for found in (*any_of((*special, *names)).finditer(text), None):
        stop = len(text) if found is None else found.start()
        kept += text[start:stop]
        flags += learned[start:stop]
        if found is not None and (name := names.get(found[0])):
            kept += name
            flags += learned[stop : stop + 1] * len(name)
        elif kept:
            parts.append(kept)
            kept = ""
        if found is not None:
            start = found.end()
            if found[0] not in names:
                parts.append(special[found[0]])
                flags.append(max(learned[stop:start]))


def _token(piece: Piece, tokenizer: Tokenizer, parts: Sequence[str | int]) -> int | None:
    """Return the id that a piece stands for, if any."""
    if piece.token == "begin":
        return tokenizer.bos_id
    ended = piece.token == "close" and isinstance(parts[-1], int)
    return None if ended else tokenizer.eot_id
