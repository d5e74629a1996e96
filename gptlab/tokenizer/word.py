"""Words and punctuation marks as tokens.

T tokens.

Follows "Build a Large Language Model (From Scratch)", sections 2.2 to 2.4.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from gptlab.errors import UserError
from gptlab.slots import slot
from gptlab.tokenizer.protocol import EncodedParts, TrainingText
from gptlab.tokenizer.text import END_OF_TEXT, UNKNOWN, encode_stretches, encode_unicode

BOUNDARY = re.compile(r"""([,.:;?_!"()']|--|\s)""")
SPACE_BEFORE_MARK = re.compile(r"""\s+([,.:;?!"()'])""")


@slot("tokenizer")
def train(texts: TrainingText, *, unknown: bool, end_of_text: bool) -> "WordTokenizer":
    """Return a tokenizer of the text's words.

    Words and punctuation marks are sorted.
    """
    seen: set[str] = set()
    for chunk in texts:
        seen.update(split_words(chunk))
    return WordTokenizer(words=sorted(seen), unknown=unknown, end_of_text=end_of_text)


def split_words(text: str) -> list[str]:
    """Return a text's words and punctuation marks.

    White space is lost.
    """
    encode_unicode(text, "utf-8")  # raises for half of a surrogate pair, as in every tokenizer
    return [item for part in BOUNDARY.split(text) if (item := part.strip())]


class WordTokenizer:
    """Tokenizer of words and punctuation marks.

    Ids follow the order of the words; then comes <|endoftext|>, then <|unk|>, if requested.

    Args:
        words: the vocabulary, each once.
        unknown: whether other words become <|unk|>, instead of raising.
        end_of_text: whether <|endoftext|> has an id.
    """

    bos_id: None = None
    unused_ids: tuple[int, ...] = ()

    def __init__(self, *, words: list[str], unknown: bool, end_of_text: bool) -> None:
        self._words, self._unknown, self._end_of_text = words, unknown, end_of_text
        self._texts = [*words, *[END_OF_TEXT] * end_of_text, *[UNKNOWN] * unknown]
        self._ids = {word: i for i, word in enumerate(words)}

    @property
    def vocab_size(self) -> int:
        return len(self._texts)

    @property
    def eot_id(self) -> int | None:
        return len(self._words) if self._end_of_text else None

    @property
    def end_ids(self) -> tuple[int, ...]:
        return () if self.eot_id is None else (self.eot_id,)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text.

        Raises:
            UserError: a word is not in the vocabulary, and there is no <|unk|>.
        """
        items = split_words(text)
        if self._unknown:
            return [self._ids.get(item, self.vocab_size - 1) for item in items]
        for n, item in enumerate(items, start=1):
            if item not in self._ids:
                raise UserError(
                    f"{item!r}, word {n:,} of the text, is not among the {len(self._words):,} that the tokenizer "
                    "learned: tokenizer.unknown=true makes it <|unk|>"
                )
        return [self._ids[item] for item in items]

    def encode_array(self, text: str) -> np.ndarray:
        return np.array(self.encode(text), dtype=np.uint32)  # (T,)

    def encode_parts(self, parts: Sequence[str | int]) -> EncodedParts:
        return encode_stretches(parts, self._encode_spans)

    def _encode_spans(self, text: str) -> EncodedParts:
        ids, items = self.encode(text), BOUNDARY.split(text)
        ends = np.cumsum([len(item) for item in items]).tolist()
        words = [(end - len(item), end) for item, end in zip(items, ends, strict=True) if item.strip()]
        return EncodedParts(ids, [start for start, _ in words], [end for _, end in words])

    def decode(self, ids: Sequence[int]) -> str:
        return SPACE_BEFORE_MARK.sub(r"\1", " ".join([self._texts[i] for i in ids]))

    def special_ids(self) -> dict[str, int]:
        return {} if self.eot_id is None else {END_OF_TEXT: self.eot_id}

    def token_bytes(self) -> None:
        return None  # white space is lost

    def state(self) -> dict[str, Any]:
        return {"kind": "word", "words": self._words, "unknown": self._unknown, "end_of_text": self._end_of_text}
