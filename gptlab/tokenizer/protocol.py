"""The tokenizer protocol.

V vocabulary, T tokens.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np


class EncodedParts(NamedTuple):
    """The T ids of a text, and the characters of each.

    No span is empty: a token that stands for no character, such as the blank that some tokenizers put before a text,
    has the span of the next one. The spans of bytes of one character are equal.
    """

    ids: list[int]
    starts: list[int]
    ends: list[int]

    def followed_by(self, other: "EncodedParts", *, at: int) -> "EncodedParts":
        """Return both, the other's spans moved by `at` characters."""
        starts, ends = ([at + place for place in places] for places in other[1:])
        return EncodedParts(self.ids + other.ids, self.starts + starts, self.ends + ends)


class Tokenizer(Protocol):
    """Text to ids and back.

    Text that looks like a special token is encoded as text.
    """

    @property
    def vocab_size(self) -> int:
        """Return V; every id lies in [0, V)."""

    @property
    def eot_id(self) -> int | None:
        """Return the id between two documents, None without one."""

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Return the ids that end a text or an answer.

        The first is `eot_id`; there are none without it.
        """

    @property
    def unused_ids(self) -> tuple[int, ...]:
        """Return the ids in [0, V) without a token, as in a padded vocabulary."""

    @property
    def bos_id(self) -> int | None:
        """Return the id that begins every text, None without one.

        `encode` does not add it.
        """

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, never `eot_id`.

        Raises:
            UserError: the text holds half of a surrogate pair, or characters without an id.
        """

    def encode_array(self, text: str) -> np.ndarray:
        """Return the ids of a text as an array.

        Corpora use it, since it is fast. Shape: (T,) uint32. Several threads may call it at once.
        """

    def encode_parts(self, parts: Sequence[str | int]) -> EncodedParts:
        """Return the ids of texts and special tokens that stand next to each other.

        They are the ids of the whole text in transformers, with the names of the special tokens written out.

        Args:
            parts: texts, in which no name becomes a special token, and ids of special tokens. Each character of a text
                counts one in the spans, and so does each id.

        Raises:
            UserError: see `encode`, or a text holds a character that stands for a special token.
        """

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of some ids.

        Special tokens appear by their names. Bytes that are not UTF-8 become U+FFFD.
        """

    def special_ids(self) -> dict[str, int]:
        """Return name -> id of the special tokens.

        Encoding a text never gives one of them.
        """

    def token_bytes(self) -> np.ndarray | None:
        """Return the UTF-8 bytes of each id's text.

        Special tokens have 0. The result is None if encoding can lose text. Shape: (V,) int64.
        """

    def state(self) -> dict[str, Any]:
        """Return plain values for `from_state`.

        Their types are str, int, list and dict.
        """


class TrainingText(Protocol):
    """The text that a tokenizer learns from."""

    @property
    def fingerprint(self) -> str:
        """Return a hash of the text."""

    def __iter__(self) -> Iterator[str]:
        """Yield the text in chunks.

        A chunk has at most a few MB, and no token spans its end.
        """
