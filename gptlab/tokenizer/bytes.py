"""Bytes of UTF-8 as tokens.

V vocabulary, T tokens.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gptlab.slots import slot
from gptlab.tokenizer.protocol import EncodedParts
from gptlab.tokenizer.text import END_OF_TEXT, byte_spans, encode_stretches, encode_unicode


@slot("tokenizer")
class ByteTokenizer:
    """Tokenizer with one id per byte.

    No text is lost.

    Args:
        end_of_text: whether id 256 is <|endoftext|>.
    """

    bos_id: None = None
    unused_ids: tuple[int, ...] = ()

    def __init__(self, *, end_of_text: bool) -> None:
        self._end_of_text = end_of_text
        self._tokens = [bytes([byte]) for byte in range(256)] + [END_OF_TEXT.encode()] * end_of_text

    @property
    def vocab_size(self) -> int:
        return len(self._tokens)

    @property
    def eot_id(self) -> int | None:
        return 256 if self._end_of_text else None

    @property
    def end_ids(self) -> tuple[int, ...]:
        return () if self.eot_id is None else (self.eot_id,)

    def encode(self, text: str) -> list[int]:
        return list(encode_unicode(text, "utf-8"))

    def encode_array(self, text: str) -> np.ndarray:
        return np.frombuffer(encode_unicode(text, "utf-8"), dtype=np.uint8).astype(np.uint32)  # (T,)

    def encode_parts(self, parts: Sequence[str | int]) -> EncodedParts:
        return encode_stretches(parts, self._encode_spans)

    def _encode_spans(self, text: str) -> EncodedParts:
        ids = self.encode(text)
        return EncodedParts(ids, *byte_spans(text, [1] * len(ids)))

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join([self._tokens[i] for i in ids]).decode("utf-8", errors="replace")

    def special_ids(self) -> dict[str, int]:
        return {} if self.eot_id is None else {END_OF_TEXT: self.eot_id}

    def token_bytes(self) -> np.ndarray:
        sizes = np.ones(self.vocab_size, dtype=np.int64)  # (V,)
        sizes[256:] = 0
        return sizes

    def state(self) -> dict[str, Any]:
        return {"kind": "bytes", "end_of_text": self._end_of_text}
