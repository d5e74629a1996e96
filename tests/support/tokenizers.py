"""Texts that are hard for a tokenizer."""

import random
from collections.abc import Iterator
from itertools import chain

PROSE = (
    "It was a bright cold day in April, and the clocks weren't striking 13. \"Don't you know?\" she said; they'd seen "
    "1,984 of them -- or so they'll say. The theatre, the weather, the other brother: whether or not.\n\n"
)

ALPHABETS = [
    "abcde '",
    "aA  \n",
    " \t\n\r\v\f\x1c\x85\u00a0\u2003\u2028\u3000x",
    "0123456789.,-٣४½²",
    "äöüßéñçøÅЖщ\u0301\u0327ﬁ",
    "漢字かなカナ한국어ไทย",
    "🙂👩\u200d👩\u200d👧🏽\ufe0f🇬🇧",
    "\x00\x01\x7f\u200b\ufeff\ufffd\U0010ffff",
    "".join(chr(byte) for byte in range(256)),
]
WORDS = [
    "<|endoftext|>",
    "<|unk|>",
    "<|fim_prefix|>",
    "'re",
    "'LL",
    "\u017f",
    "  ",
    "\n\n",
    "\r\n",
    "the",
    " the",
    "aaaa",
]

EDGES = [
    "",
    "\n",
    " ",
    "\x00",
    "\n\n\n",
    "  a",
    "a  ",
    "<|endoftext|>",
    "<|unk|>",
    "e\u0301",
    "🙂",
    "\U0010ffff",
    "a" * 700,
]


def hard_texts(n: int, *, seed: int) -> list[str]:
    """Return the edge cases and n random texts.

    The random ones are runs of one script, of many, of words, or of any code points.
    """
    rng = random.Random(seed)
    anything = [chr(point) for point in rng.choices([*range(0xD800), *range(0xE000, 0x110000)], k=300)]
    alphabets = [*ALPHABETS, "".join(ALPHABETS), anything, WORDS]
    return EDGES + ["".join(rng.choices(rng.choice(alphabets), k=rng.randrange(1, 60))) for _ in range(n)]


TEXTS = hard_texts(400, seed=1)
LOSSLESS = ["bpe", "gpt2", "bytes", "bytes without eot", "char", "pretrained"]  # of the fixture `tokenizers`
LOSSY = ["char with unk", "word with unk", "word"]


class InMemoryText:
    """A training text in memory that counts its readings."""

    def __init__(self, *chunks: str, fingerprint: str = "a text") -> None:
        self.chunks, self.fingerprint, self.readings = chunks, fingerprint, 0

    def __iter__(self) -> Iterator[str]:
        self.readings += 1
        return iter(self.chunks)


def learnable(seed: int = 0) -> InMemoryText:
    """Return prose between hard texts, so that merges of many kinds are learned."""
    return InMemoryText(*chain.from_iterable((text, PROSE) for text in hard_texts(200, seed=seed)))
