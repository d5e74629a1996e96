"""Placeholder for a missing tokenizer.

V vocabulary.
"""

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from gptlab.errors import UserError
from gptlab.tokenizer.protocol import EncodedParts


class AbsentTokenizer:
    """Placeholder for the tokenizer of a folder without one.

    A model with it can compute logits and be exported.

    Args:
        folder: the model's, which holds no tokenizer.
        vocab_size: V, the rows of the model's embedding.
    """

    eot_id: None = None
    bos_id: None = None
    end_ids: tuple[int, ...] = ()
    unused_ids: tuple[int, ...] = ()

    def __init__(self, *, folder: str, vocab_size: int) -> None:
        self.folder, self.vocab_size = folder, vocab_size

    def encode(self, text: str) -> list[int]:
        self._refuse()

    def encode_array(self, text: str) -> np.ndarray:
        self._refuse()

    def encode_parts(self, parts: Sequence[str | int]) -> EncodedParts:
        self._refuse()

    def decode(self, ids: Sequence[int]) -> str:
        self._refuse()

    def special_ids(self) -> dict[str, int]:
        return {}

    def token_bytes(self) -> None:
        return None

    def state(self) -> dict[str, Any]:
        return {"kind": "absent", "folder": self.folder, "vocab_size": self.vocab_size}

    def _refuse(self) -> NoReturn:
        raise UserError(
            f"{self.folder} has no tokenizer, so its model reads and writes ids only: put its tokenizer.json there, or "
            "continue training with another tokenizer= of the same ids"
        )
