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
        """Return the id that begins every text.

        It is None if a text begins with its own first token. `encode` does not add it.
        """

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, never `eot_id`.

        Raises:
            UserError: the text holds half a surrogate pair, or characters without an id.
        """

    def encode_array(self, text: str) -> np.ndarray:
        """Return the ids of a text as an array.

        This is the fast way for a corpus. Shape: (T,) uint32. Several threads may call it at once.
        """

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids.

        Special tokens appear by their names. Bytes that are not UTF-8 become U+FFFD.
        """

    def special_ids(self) -> dict[str, int]:
        """Return name -> id of the special tokens.

        Text never becomes one of them.
        """

    def token_bytes(self) -> np.ndarray | None:
        """Return the UTF-8 bytes of each id's text.

        They are 0 for special tokens. Shape: (V,) int64. The result is None where text can be lost in encoding.
        """

    def state(self) -> dict[str, Any]:
        """Return plain values for `from_state`.

        They are str, int, list and dict.
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
