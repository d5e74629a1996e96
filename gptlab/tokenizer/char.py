"""Characters as tokens, as in nanoGPT.

V vocabulary, T tokens.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gptlab.errors import UserError
from gptlab.slots import slot
from gptlab.tokenizer.protocol import EncodedParts, TrainingText
from gptlab.tokenizer.text import END_OF_TEXT, encode_stretches, encode_unicode

NO_ID = np.iinfo(np.uint32).max  # marks a character outside the vocabulary


@slot("tokenizer")
def train(texts: TrainingText, *, unknown: bool, end_of_text: bool) -> "CharTokenizer":
    """Return a tokenizer of the text's characters.

    They are sorted by code point.
    """
    seen: set[str] = set()
    for chunk in texts:
        seen.update(chunk)
    return CharTokenizer(characters="".join(sorted(seen)), unknown=unknown, end_of_text=end_of_text)


class CharTokenizer:
    """Tokenizer with one id per character.

    Ids follow the order of the characters; then comes <|endoftext|>, then <|unk|>, if requested.

    Args:
        characters: the vocabulary, each once.
        unknown: whether other characters become <|unk|>, which decodes to U+FFFD, instead of raising.
        end_of_text: whether <|endoftext|> has an id.
    """

    bos_id: None = None
    unused_ids: tuple[int, ...] = ()

    def __init__(self, *, characters: str, unknown: bool, end_of_text: bool) -> None:
        self._characters, self._unknown, self._end_of_text = characters, unknown, end_of_text
        self._texts = [*characters, *[END_OF_TEXT] * end_of_text, *["\ufffd"] * unknown]
        self._ids = np.full(0x110000, self.vocab_size - 1 if unknown else NO_ID, dtype=np.uint32)  # code point -> id
        self._ids[_code_points(characters)] = np.arange(len(characters))

    @property
    def vocab_size(self) -> int:
        return len(self._texts)

    @property
    def eot_id(self) -> int | None:
        return len(self._characters) if self._end_of_text else None

    @property
    def end_ids(self) -> tuple[int, ...]:
        return () if self.eot_id is None else (self.eot_id,)

    def encode(self, text: str) -> list[int]:
        return self.encode_array(text).tolist()

    def encode_array(self, text: str) -> np.ndarray:
        """Return the ids of a text.

        Shape: (T,) uint32.

        Raises:
            UserError: a character is not in the vocabulary, and there is no <|unk|>.
        """
        ids = self._ids[_code_points(text)]  # (T,)
        missing = ids == NO_ID
        if missing.any():
            at = int(missing.argmax())
            raise UserError(
                f"the character {text[at]!r} (U+{ord(text[at]):04X}) at position {at:,} is not among the "
                f"{len(self._characters):,} that the tokenizer learned: tokenizer.unknown=true makes it <|unk|>"
            )
        return ids

    def encode_parts(self, parts: Sequence[str | int]) -> EncodedParts:
        return encode_stretches(parts, self._encode_spans)

    def _encode_spans(self, text: str) -> EncodedParts:
        places = range(len(text))
        return EncodedParts(self.encode(text), [*places], [place + 1 for place in places])

    def decode(self, ids: Sequence[int]) -> str:
        return "".join([self._texts[i] for i in ids])

    def special_ids(self) -> dict[str, int]:
        return {} if self.eot_id is None else {END_OF_TEXT: self.eot_id}

    def token_bytes(self) -> np.ndarray | None:
        if self._unknown:
            return None
        sizes = np.zeros(self.vocab_size, dtype=np.int64)  # (V,)
        sizes[: len(self._characters)] = [len(character.encode()) for character in self._characters]
        return sizes

    def state(self) -> dict[str, Any]:
        return {
            "kind": "char",
            "characters": self._characters,
            "unknown": self._unknown,
            "end_of_text": self._end_of_text,
        }


def _code_points(text: str) -> np.ndarray:
    """Return the code point of each character.

    Shape: (T,).
    """
    return np.frombuffer(encode_unicode(text, "utf-32-le"), dtype="<u4")
