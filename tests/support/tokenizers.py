"""Texts that are hard for a tokenizer, and tokenizers of published layouts."""

import json
import random
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Library

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


# name -> flags of the special tokens in each layout
SPECIAL: dict[str, dict[str, bool]] = {
    "<unk>": {},
    "<s>": {},
    "</s>": {},
    "<|start|>": {},
    "<|left|>": {"lstrip": True},
    "<|right|>": {"rstrip": True},
    "<|both|>": {"lstrip": True, "rstrip": True},
    "<|word|>": {"single_word": True},
    "<|normal|>": {"normalized": True},
}


def byte_level() -> Library:
    """GPT-2's layout."""
    library = Library(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    library.train_from_iterator([PROSE], trainer)
    return library


def sentencepiece() -> Library:
    """Llama 2's layout without its blanks: byte pairs with a fallback to bytes."""
    trained = Library(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trained.train_from_iterator([PROSE], trainers.BpeTrainer(vocab_size=200, show_progress=False))
    model = json.loads(trained.to_str())["model"]
    first = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocab = {token: i for i, token in enumerate([*first, *sorted(model["vocab"], key=model["vocab"].get)])}
    merges = [(a, b) for a, b in model["merges"]]
    library = Library(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    library.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return library


def prepend() -> Library:
    """Llama 2's layout as transformers 4 writes it."""
    library = sentencepiece()
    library.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    return library


def metaspace(scheme: str) -> Library:
    """Llama 2's layout as transformers 5 writes it."""
    library = sentencepiece()
    library.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    return library


def unigram() -> Library:
    """T5's layout."""
    library = Library(models.Unigram())
    library.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    library.pre_tokenizer = pre_tokenizers.Metaspace()
    library.decoder = decoders.Metaspace()
    options = {"unk_token": "<unk>", "special_tokens": ["<unk>"], "show_progress": False}
    library.train_from_iterator([PROSE], trainers.UnigramTrainer(vocab_size=100, **options))
    return library


def wordpiece() -> Library:
    """BERT's layout, which drops what private-use characters are."""
    library = Library(models.WordPiece(unk_token="<unk>"))
    library.normalizer = normalizers.BertNormalizer()
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    library.decoder = decoders.WordPiece()
    options = {"special_tokens": ["<unk>"], "show_progress": False}
    library.train_from_iterator([PROSE], trainers.WordPieceTrainer(vocab_size=150, **options))
    return library


LAYOUTS: dict[str, Callable[[], Library]] = {
    "byte-level": byte_level,
    "prepend": prepend,
    "metaspace first": partial(metaspace, "first"),
    "metaspace always": partial(metaspace, "always"),
    "metaspace never": partial(metaspace, "never"),
    "unigram": unigram,
    "wordpiece": wordpiece,
}


def write_layout(layout: str, folder: Path, **settings: Any) -> Path:
    """Write a tokenizer of a layout, with the special tokens, as a folder that transformers opens.

    Args:
        settings: more of tokenizer_config.json.
    """
    library = LAYOUTS[layout]()
    library.add_special_tokens([AddedToken(name, **{"normalized": False} | flags) for name, flags in SPECIAL.items()])
    folder.mkdir(exist_ok=True, parents=True)
    library.save(str(folder / "tokenizer.json"))
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **names, **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder
