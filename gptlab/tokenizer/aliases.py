"""Special tokens inside a text that the `tokenizers` library encodes.

T tokens.
"""

from collections.abc import Sequence

from tokenizers import AddedToken

from gptlab.errors import UserError
from gptlab.tokenizer.library import library_errors, parse_tokenizer
from gptlab.tokenizer.protocol import EncodedParts
from gptlab.tokenizer.text import spans

LAST_PRIVATE = 0x10FFFD  # the last character for private use; fonts with symbols use the first ones of its plane


class AliasLibrary:
    """Library that knows each special token by one character.

    A name in a text stays text, and the character becomes the token, with the blanks around it that the token takes.

    Args:
        tokenizer_json: content of a tokenizer.json.
        special: id -> special token, with the rules by which it is found in a text.
    """

    def __init__(self, tokenizer_json: str, special: dict[int, AddedToken]) -> None:
        self._library = parse_tokenizer(tokenizer_json)
        self._library.add_special_tokens([AddedToken(token.content, normalized=False) for token in special.values()])
        self._library.encode_special_tokens = True
        self._library.post_processor = None  # it would take the blank at a token's beginning out of its span
        self._characters = {i: chr(LAST_PRIVATE - n) for n, i in enumerate(special)}
        self._library.add_tokens([self._alias(token, self._characters[i]) for i, token in special.items()])
        self._special = {self._library.token_to_id(character): i for i, character in self._characters.items()}

    def _alias(self, token: AddedToken, character: str) -> AddedToken:
        """Return a token that is found where another one is."""
        normalizer = self._library.normalizer
        changes = normalizer is not None and normalizer.normalize_str(character) != character  # or loses it
        return AddedToken(
            character,
            single_word=token.single_word,
            lstrip=token.lstrip,
            rstrip=token.rstrip,
            normalized=token.normalized and not changes,
            special=False,
        )

    def join(self, parts: Sequence[str | int]) -> str:
        """Return texts and special ids as one text.

        Raises:
            UserError: a text holds a character that stands for a special token.
        """
        aliases = frozenset(self._characters.values())
        for part in parts:
            if isinstance(part, str) and not aliases.isdisjoint(part):
                found = next(character for character in part if character in aliases)
                raise UserError(
                    f"the text holds {found!r}, a character for private use that stands for a special token here: "
                    "remove it"
                )
        return "".join([part if isinstance(part, str) else self._characters[part] for part in parts])

    def encode(self, text: str, *, boundary_ids: Sequence[int]) -> EncodedParts:
        """Return the ids of a text with aliases, and their spans.

        Args:
            boundary_ids: special tokens that the file may list as ordinary ones; where such a name is one token, the
                text is cut within it.

        Raises:
            UserError: the tokenizer has no token for a part of the text.
        """
        with library_errors("the tokenizer cannot encode the text"):
            encoding = self._library.encode(text, add_special_tokens=False)
        for i, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            if i in boundary_ids:
                return self._encode_cut(text, start, end, boundary_ids)
        ids = [self._special.get(i, i) for i in encoding.ids]
        return EncodedParts(ids, *spans(encoding.offsets, len(text)))

    def _encode_cut(self, text: str, start: int, end: int, boundary_ids: Sequence[int]) -> EncodedParts:
        if end - start < 2:
            raise UserError(
                f"the tokenizer's only token for {text[start:end]!r} at position {start:,} is the one that ends a "
                "text: remove it"
            )
        cut = start + 1
        before, after = (self.encode(part, boundary_ids=boundary_ids) for part in (text[:cut], text[cut:]))
        return before.followed_by(after, at=cut)
