"""Byte-level byte pair encoding: GPT-2's tokenizer, and others of its kind.   V vocabulary, T tokens."""

import hashlib
import json
import logging
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tiktoken
import tokenizers
from tiktoken_ext.openai_public import r50k_pat_str  # type: ignore[import-untyped]

from gptlab.errors import UserError
from gptlab.slots import slot
from gptlab.tokenizer.cache import cached
from gptlab.tokenizer.library import MOST_IDS, Calling
from gptlab.tokenizer.merges import learn
from gptlab.tokenizer.protocol import TrainingText
from gptlab.tokenizer.text import END_OF_TEXT, encoded, unused

log = logging.getLogger(__name__)

FORMAT = 1  # of what is cached: a new number whenever the same text would give other ids
LONG_BLANK = re.compile(r"(?<!\s)\s{100000,}")  # from the start of a run only, or the search is quadratic


class BytePairTokenizer:
    """Byte pair encoding (arXiv 1508.07909) of the bytes of UTF-8, run by tiktoken; no text is lost.

    Args:
        ranks: token -> id, the bytes of the token written as Latin-1 characters; the lowest id is merged first.
        pattern: the regular expression that cuts a text into chunks; no token spans two.
        special: name -> id of the tokens that text never becomes; <|endoftext|> is one.
    """

    bos_id: None = None

    def __init__(self, *, ranks: dict[str, int], pattern: str, special: dict[str, int]) -> None:
        self._ranks, self._pattern, self._special = ranks, pattern, special
        used = {*ranks.values(), *special.values()}
        if not all(0 <= i < MOST_IDS for i in used) or len(set(ranks.values())) < len(ranks):
            raise UserError(f"the tokenizer's ids are not distinct numbers from 0 below {MOST_IDS:,}: fetch it anew")
        if not ranks.keys() >= {chr(byte) for byte in range(256)} or END_OF_TEXT not in special:
            raise UserError(f"the tokenizer has no ids for all bytes and {END_OF_TEXT}: fetch it anew")
        others = {unused(i): i for i in range(max(used)) if i not in used}
        with Calling("tiktoken cannot take the tokenizer's pattern"):
            self._encoding = tiktoken.Encoding(
                "gptlab",
                pat_str=pattern,
                mergeable_ranks={token.encode("latin-1"): i for token, i in ranks.items()},
                special_tokens=special | others,
            )

    @property
    def vocab_size(self) -> int:
        return self._encoding.n_vocab

    @property
    def eot_id(self) -> int:
        return self._special[END_OF_TEXT]

    def encode(self, text: str) -> list[int]:
        return self.encode_array(text).tolist()

    def encode_array(self, text: str) -> np.ndarray:
        """The ids as a (T,) uint32 array; other Python threads run meanwhile.

        A run of a million white-space characters overflows tiktoken's regular expressions: a text with such a run is
        encoded in parts, and the ids next to a cut may be others than in one go.
        """
        encoded(text, "utf-8")  # half of a surrogate pair is refused here as everywhere
        try:
            parts = [self._encoding.encode_to_numpy(text, disallowed_special=())]
        except ValueError:
            parts = [self._encoding.encode_to_numpy(part, disallowed_special=()) for part in _cut_blanks(text)]
        return np.concatenate(parts)  # a copy, which can be written to; tiktoken's cannot

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
def train(texts: TrainingText, *, vocab_size: int, sample_bytes: int, cache_dir: str) -> BytePairTokenizer:
    """The tokenizer learned from a text, or read from the cache if the same was learned before.

    Args:
        vocab_size: ids in all: the 256 bytes, the merges, and last <|endoftext|>; a short text gives fewer.
        sample_bytes: of a longer text, pieces spread evenly over it are read, this much in all, to within a piece.
        cache_dir: holds a folder `tokenizers` of what was learned.

    Raises:
        UserError: vocab_size or sample_bytes is too small.
    """
    if vocab_size < 257:
        raise UserError(f"tokenizer.vocab_size is {vocab_size}: 256 bytes and {END_OF_TEXT} need at least 257")
    if sample_bytes < 1:
        raise UserError(f"tokenizer.sample_bytes is {sample_bytes}: it must be at least 1")
    key = json.dumps([FORMAT, tokenizers.__version__, texts.fingerprint, vocab_size, sample_bytes])
    path = Path(cache_dir).expanduser() / "tokenizers" / f"{hashlib.sha256(key.encode()).hexdigest()[:20]}.json"
    ranks = cached(path, lambda: learn(texts, n_tokens=vocab_size - 1, sample_bytes=sample_bytes))
    if len(ranks) < vocab_size - 1:
        log.info("the text gives %s ids, fewer than tokenizer.vocab_size=%s", f"{len(ranks) + 1:,}", vocab_size)
    return BytePairTokenizer(ranks=ranks, pattern=r50k_pat_str, special={END_OF_TEXT: len(ranks)})


def _cut_blanks(text: str) -> list[str]:
    """The text in parts, none with more than 100,000 white-space characters in a run."""
    runs = LONG_BLANK.finditer(text)
    cuts = [0, *[at for run in runs for at in range(run.start(), run.end(), 100_000)], len(text)]
    return [text[a:b] for a, b in pairwise(cuts)]
