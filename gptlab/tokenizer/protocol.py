"""What the rest of gptlab asks of a tokenizer.   V vocabulary, T tokens."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np


class Tokenizer(Protocol):
    """Text to ids and back; text that looks like a special token is text."""

    @property
    def vocab_size(self) -> int:
        """V: every id lies in [0, V)."""

    @property
    def eot_id(self) -> int | None:
        """The id that stands between two documents, None where there is none."""

    @property
    def bos_id(self) -> int | None:
        """The id that a text begins with, None where a text begins with its first token; `encode` does not add it."""

    def encode(self, text: str) -> list[int]:
        """Ids of the text, `eot_id` never among them; half of a surrogate pair, which is no character, is refused."""

    def encode_array(self, text: str) -> np.ndarray:
        """The same ids as a (T,) uint32 array, the fast way to tokenise a corpus; safe to call from several threads."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of the ids, special tokens by their names; bytes that are not UTF-8 become U+FFFD."""

    def special_ids(self) -> dict[str, int]:
        """Name -> id of the tokens that text never becomes: the end of text, and what else marks turns or borders."""

    def token_bytes(self) -> np.ndarray | None:
        """(V,) int64, the bytes of UTF-8 that each id stands for, 0 for special tokens; None where text can be lost."""

    def state(self) -> dict[str, Any]:
        """Plain Python values (str, int, list, dict) from which `from_state` makes an equal tokenizer."""


class TrainingText(Protocol):
    """The training part of a run's text, which a tokenizer may learn from."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the text does; the key under which what was learned is cached."""

    def __iter__(self) -> Iterator[str]:
        """Pieces of text, of at most a few MB each, cut where no token can span."""
