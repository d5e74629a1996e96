"""Byte-level byte pair encoding, as in GPT-2.

V vocabulary, T tokens.
"""

import hashlib
import json
import logging
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tiktoken
import tokenizers
from tiktoken_ext.openai_public import r50k_pat_str  # type: ignore[import-untyped]

from gptlab.bounds import AtLeast
from gptlab.errors import UserError
from gptlab.slots import slot
from gptlab.tokenizer.library import MAX_IDS, library_errors
from gptlab.tokenizer.merges import learn_ranks
from gptlab.tokenizer.protocol import EncodedParts, TrainingText
from gptlab.tokenizer.text import END_OF_TEXT, byte_spans, encode_stretches, encode_unicode, unused_name
from gptlab.tokenizer.vocabulary_cache import load_or_learn

log = logging.getLogger(__name__)

FORMAT = 1  # version of the cached vocabulary; raise it when the same text would give other ids
MIN_VOCAB_SIZE = 257  # the bytes and <|endoftext|>
MAX_WHITESPACE = 100_000  # longest run in characters; tiktoken fails on a million
# The search starts at a run's first character only; otherwise it is quadratic.
LONG_WHITESPACE = re.compile(rf"(?<!\s)\s{{{MAX_WHITESPACE},}}")


class BytePairTokenizer:
    """Byte pair encoding of UTF-8 bytes.

    tiktoken runs it. No text is lost. Algorithm: arXiv 1508.07909.

    Args:
        ranks: token -> id, the bytes of the token written as Latin-1 characters; the lowest id is merged first.
        pattern: regular expression that cuts a text into pre-tokens; no token spans two.
        special: name -> id of the special tokens, among them <|endoftext|>. `encode` never returns them.

    Raises:
        UserError: the ids are not distinct, or some are missing.
    """

    bos_id: None = None

    def __init__(self, *, ranks: dict[str, int], pattern: str, special: dict[str, int]) -> None:
        self._ranks, self._pattern, self._special = ranks, pattern, special
        used = {*ranks.values(), *special.values()}
        if not all(0 <= i < MAX_IDS for i in used) or len(set(ranks.values())) < len(ranks):
            raise UserError(f"the tokenizer's ids are not distinct numbers from 0 below {MAX_IDS:,}: fetch it again")
        if not ranks.keys() >= {chr(byte) for byte in range(256)} or END_OF_TEXT not in special:
            raise UserError(f"the tokenizer has no ids for all bytes and {END_OF_TEXT}: fetch it again")
        self.unused_ids = tuple(i for i in range(max(used)) if i not in used)
        with library_errors("tiktoken rejects the tokenizer's pattern"):
            self._encoding = tiktoken.Encoding(
                "gptlab",
                pat_str=pattern,
                mergeable_ranks={token.encode("latin-1"): i for token, i in ranks.items()},
                special_tokens=special | {unused_name(i): i for i in self.unused_ids},
            )

    @property
    def vocab_size(self) -> int:
        return self._encoding.n_vocab

    @property
    def eot_id(self) -> int:
        return self._special[END_OF_TEXT]

    @property
    def end_ids(self) -> tuple[int, ...]:
        return (self.eot_id,)

    def encode(self, text: str) -> list[int]:
        return self.encode_array(text).tolist()

    def encode_array(self, text: str) -> np.ndarray:
        """Return the ids of a text.

        Shape: (T,) uint32.
        Releases Python's global lock. A run of a million white-space characters overflows tiktoken's regular
        expressions: a text with such a run is encoded in parts, and the ids next to a cut may differ.
        """
        encode_unicode(text, "utf-8")  # raises for half of a surrogate pair, as in every tokenizer
        try:
            parts = [self._encoding.encode_to_numpy(text, disallowed_special=())]
        except ValueError:
            parts = [self._encoding.encode_to_numpy(part, disallowed_special=()) for part in _cut_whitespace(text)]
        return np.concatenate(parts)  # a copy: tiktoken's array is read-only

    def encode_parts(self, parts: Sequence[str | int]) -> EncodedParts:
        return encode_stretches(parts, self._encode_spans)

    def _encode_spans(self, text: str) -> EncodedParts:
        ids = self.encode(text)
        return EncodedParts(ids, *byte_spans(text, list(map(len, self._encoding.decode_tokens_bytes(ids)))))

    def decode(self, ids: Sequence[int]) -> str:
        return self._encoding.decode(ids)

    def special_ids(self) -> dict[str, int]:
        return dict(self._special)

    def token_bytes(self) -> np.ndarray:
        sizes = np.zeros(self.vocab_size, dtype=np.int64)  # (V,)
        sizes[list(self._ranks.values())] = [len(token) for token in self._ranks]
        return sizes

    def state(self) -> dict[str, Any]:
        return {"kind": "bpe", "ranks": self._ranks, "pattern": self._pattern, "special": self._special}


@slot("tokenizer")
def train(
    texts: TrainingText,
    *,
    vocab_size: Annotated[int, AtLeast(MIN_VOCAB_SIZE)],
    sample_bytes: Annotated[int, AtLeast(1)],
    cache_dir: str,
) -> BytePairTokenizer:
    """Learn a tokenizer from a text.

    A vocabulary learned before is loaded from the cache.

    Args:
        vocab_size: V, for 256 bytes, the merges and <|endoftext|>; a short text gives fewer.
        sample_bytes: about this much of a longer text is read, in chunks spread evenly over it.
        cache_dir: learned vocabularies are kept in its folder `tokenizers`.

    Raises:
        UserError: vocab_size or sample_bytes is too small.
    """
    if vocab_size < MIN_VOCAB_SIZE:
        raise UserError(
            f"tokenizer.vocab_size is {vocab_size}: 256 bytes and {END_OF_TEXT} need at least {MIN_VOCAB_SIZE}"
        )
    if sample_bytes < 1:
        raise UserError(f"tokenizer.sample_bytes is {sample_bytes}: it must be at least 1")
    key = json.dumps([FORMAT, tokenizers.__version__, texts.fingerprint, vocab_size, sample_bytes])
    path = Path(cache_dir).expanduser() / "tokenizers" / f"{hashlib.sha256(key.encode()).hexdigest()[:20]}.json"
    ranks = load_or_learn(path, lambda: learn_ranks(texts, n_tokens=vocab_size - 1, sample_bytes=sample_bytes))
    if len(ranks) < vocab_size - 1:
        log.info(f"vocabulary of {len(ranks) + 1:,} ids: the text is too short for tokenizer.vocab_size={vocab_size}")
    return BytePairTokenizer(ranks=ranks, pattern=r50k_pat_str, special={END_OF_TEXT: len(ranks)})


def _cut_whitespace(text: str) -> list[str]:
    """Cut a text within long runs of white space."""
    runs = LONG_WHITESPACE.finditer(text)
    cuts = [0, *[at for run in runs for at in range(run.start(), run.end(), MAX_WHITESPACE)], len(text)]
    return [text[a:b] for a, b in pairwise(cuts)]
