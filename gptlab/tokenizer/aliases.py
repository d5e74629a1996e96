"""Special tokens inside a text that the `tokenizers` library encodes.

T tokens.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise

from tokenizers import AddedToken, Tokenizer

from gptlab.errors import UserError
from gptlab.tokenizer.library import library_errors, parse_tokenizer
from gptlab.tokenizer.protocol import EncodedParts
from gptlab.tokenizer.text import spans

LAST_PRIVATE = 0x10FFFD  # the last character for private use; fonts with symbols use the first ones of its plane


class SpecialTokenEncoder:
    """Encoder of texts between special tokens, which are written as one character each.

    The library sees one text and treats a character as it treats the token's name: it takes the blanks that the token
    takes, and what it does at the beginning of a text happens where it would. Names in a text stay text.

    Args:
        tokenizer_json: content of a tokenizer.json.
        special: id -> special token, with the rules by which it is found.
        boundary_ids: those that no text may give, not even for want of a token.
    """

    def __init__(self, tokenizer_json: str, special: dict[int, AddedToken], boundary_ids: Sequence[int]) -> None:
        self._json, self._special, self._boundary_ids = tokenizer_json, special, boundary_ids
        self._characters = {i: chr(LAST_PRIVATE - n) for n, i in enumerate(special)}

    def encode(self, parts: Sequence[str | int]) -> EncodedParts:
        """Return the ids of texts and special tokens, and their spans.

        In some files a token has rules by which the library does not find it in every place; there it is put.

        Raises:
            UserError: a text holds a character that stands for a special token, or one without a token.
        """
        text = self._join(parts)
        encoded = self._encode(text, self._finding)
        if sum(i in self._special_of for i in encoded.ids) < sum(isinstance(part, int) for part in parts):
            encoded = self._encode(text, self._placing)
        return encoded._replace(ids=[self._special_of.get(i, i) for i in encoded.ids])

    def _join(self, parts: Sequence[str | int]) -> str:
        taken = frozenset(self._characters.values())
        for part in parts:
            if isinstance(part, str) and not taken.isdisjoint(part):
                raise UserError(
                    f"the text holds {next(iter(taken.intersection(part)))!r}, a character for private use that stands "
                    "for a special token here: remove it"
                )
        return "".join([part if isinstance(part, str) else self._characters[part] for part in parts])

    @cached_property
    def _finding(self) -> Tokenizer:
        """Return the library that finds a special token by its own rules."""
        return self._library(placing=False)

    @cached_property
    def _placing(self) -> Tokenizer:
        """Return the library that takes each character for its token."""
        return self._library(placing=True)

    @cached_property
    def _special_of(self) -> dict[int | None, int]:
        """Return the special token of each character's id in both libraries."""
        return {self._finding.token_to_id(character): i for i, character in self._characters.items()}

    def _library(self, *, placing: bool) -> Tokenizer:
        library = parse_tokenizer(self._json)
        library.add_special_tokens([self._special[i] for i in self._boundary_ids])
        library.encode_special_tokens = True
        library.post_processor = None  # it would take the blank at a token's beginning out of its span
        normalize = library.normalizer.normalize_str if library.normalizer else str
        aliases = [
            AddedToken(
                character,
                single_word=token.single_word and not placing,
                lstrip=token.lstrip,
                rstrip=token.rstrip,
                normalized=token.normalized and not placing and character in normalize(character),  # or it is lost
                special=False,
            )
            for character, token in zip(self._characters.values(), self._special.values(), strict=True)
        ]
        library.add_tokens(aliases)
        return library

    def _encode(self, text: str, library: Tokenizer) -> EncodedParts:
        """Return the ids of a text in which special tokens are characters.

        Some vocabularies list a name as an ordinary token; there the text is cut after the name's first character.
        """
        with library_errors("the tokenizer cannot encode the text"):
            encoding = library.encode(text, add_special_tokens=False)
        ids, offsets = encoding.ids, encoding.offsets  # each makes a new list
        named = [
            span for i, span in zip(ids, offsets, strict=True) if i in self._special and self._is_name(i, text, span)
        ]
        if not named:
            return EncodedParts(ids, *spans(offsets, len(text)))
        whole = EncodedParts([], [], [])
        for at, cut in pairwise([0, *(start + 1 for start, _ in named), len(text)]):
            whole = whole.followed_by(self._encode(text[at:cut], library), at=at)
        return whole

    def _is_name(self, i: int, text: str, span: tuple[int, int]) -> bool:
        """Return whether a text became a special token, other than for want of a token."""
        start, end = span
        if i not in self._boundary_ids:
            return end - start > 1 and text[start:end] == self._special[i].content
        if end - start < 2:
            raise UserError(
                f"the tokenizer's only token for {text[start:end]!r} at position {start:,} is the one that ends a "
                "text: remove it"
            )
        return True
