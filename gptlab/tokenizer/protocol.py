"""The tokenizer protocol.

V vocabulary, T tokens.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np


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
