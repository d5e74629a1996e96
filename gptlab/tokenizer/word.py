"""Words and punctuation marks are tokens ("Build a Large Language Model (From Scratch)", 2.2 to 2.4).   T tokens."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from gptlab.errors import UserError
from gptlab.slots import slot
from gptlab.tokenizer.protocol import TrainingText
from gptlab.tokenizer.text import END_OF_TEXT, UNKNOWN, encoded

BOUNDARY = re.compile(r"""([,.:;?_!"()']|--|\s)""")
SPACE_BEFORE_MARK = re.compile(r"""\s+([,.:;?!"()'])""")


@slot("tokenizer")
def train(texts: TrainingText, *, unknown: bool, end_of_text: bool) -> "WordTokenizer":
    """The tokenizer whose vocabulary is every word and mark of the text, sorted."""
    seen: set[str] = set()
    for piece in texts:
        seen.update(split(piece))
    return WordTokenizer(words=sorted(seen), unknown=unknown, end_of_text=end_of_text)


def split(text: str) -> list[str]:
    """The words and punctuation marks of a text; white space separates them and is lost."""
    encoded(text, "utf-8")  # half of a surrogate pair is refused here as everywhere
    return [item for part in BOUNDARY.split(text) if (item := part.strip())]


class WordTokenizer:
    """One id a word, in the order given; then <|endoftext|>, then <|unk|>, where they are asked for.

    Args:
        unknown: a word that was not learned becomes <|unk|>; else it is refused.
        end_of_text: there is an id for <|endoftext|>.
    """

    bos_id: None = None

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

    def encode(self, text: str) -> list[int]:
        """Ids of the text's words and marks.

        Raises:
            UserError: a word was not learned, and there is no <|unk|> for it.
        """
        items = split(text)
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

    def decode(self, ids: Sequence[int]) -> str:
        return SPACE_BEFORE_MARK.sub(r"\1", " ".join([self._texts[i] for i in ids]))

    def special_ids(self) -> dict[str, int]:
        return {} if self.eot_id is None else {END_OF_TEXT: self.eot_id}

    def token_bytes(self) -> None:
        return None  # white space is lost

    def state(self) -> dict[str, Any]:
        return {"kind": "word", "words": self._words, "unknown": self._unknown, "end_of_text": self._end_of_text}
