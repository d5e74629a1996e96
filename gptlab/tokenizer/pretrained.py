"""A tokenizer that came with somebody's weights, run by the `tokenizers` library.   V vocabulary, T tokens."""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers

from gptlab.errors import UserError
from gptlab.slots import slot
from gptlab.storage.excerpts import excerpt
from gptlab.storage.files import expand_path, read_bytes, read_object, read_text
from gptlab.tokenizer.library import MOST_IDS, Calling, parse_tokenizer
from gptlab.tokenizer.protocol import Tokenizer
from gptlab.tokenizer.text import encoded, unused

# What tokenizers lose: blanks, capitals, accents, signs that have a plainer form, rare characters.
# All in normal form C: some tokenizers bring a text into it first, as our cleaning does, and that counts as kept.
PROBES = [
    " ",
    "  ",
    "\n\n",
    "a \t b\r\n  c",
    "Don't you , NOW ?",
    "naïve Ångström",
    "ﬁ Ａ² №",
    "Жя",
    "東京 かな",
    "🙂👩\u200d👧",
]


class PretrainedTokenizer:
    """What a `tokenizer.json` describes, but that text never becomes a special token.

    Args:
        tokenizer_json: the file's content.
        vocab_size: rows of the model's embedding; those that the file has no token for decode to a name.
        eot_id: the end of a text.
        bos_id: the id that the model was trained to see first.

    Raises:
        UserError: the content describes no tokenizer.
    """

    def __init__(self, *, tokenizer_json: str, vocab_size: int, eot_id: int | None, bos_id: int | None) -> None:
        self._json, self._library = tokenizer_json, parse_tokenizer(tokenizer_json)
        vocab = self._library.get_vocab()
        ids = [vocab_size - 1, *(i for i in (eot_id, bos_id) if i is not None), *vocab.values()]
        if not all(isinstance(i, int) and 0 <= i < min(vocab_size, MOST_IDS) for i in ids):
            raise UserError(
                f"the tokenizer has ids outside its vocabulary of {excerpt(vocab_size)}, or that is more than "
                f"{MOST_IDS:,}: fetch it anew"
            )
        self.vocab_size, self.eot_id, self.bos_id = vocab_size, eot_id, bos_id
        self._tokens = [unused(i) for i in range(vocab_size)]
        for token, i in vocab.items():
            self._tokens[i] = token
        self._borders = [i for i in (eot_id, bos_id) if i is not None]
        # some files have them among the ordinary tokens
        self._library.add_special_tokens([AddedToken(self._tokens[i], normalized=False) for i in self._borders])
        added = self._library.get_added_tokens_decoder()
        self._special = {token.content: i for i, token in added.items() if token.special}
        self._library.encode_special_tokens = True  # as the text that they look like

    def encode(self, text: str) -> list[int]:
        return self.encode_array(text).tolist()

    def encode_array(self, text: str) -> np.ndarray:
        """The ids as a (T,) uint32 array; other Python threads run meanwhile.

        Raises:
            UserError: the text holds what the tokenizer has no token for.
        """
        encoded(text, "utf-8")  # half of a surrogate pair is refused here as everywhere
        with Calling("the tokenizer cannot encode the text"):
            [encoding] = self._library.encode_batch_fast([text], add_special_tokens=False)  # `encode` blocks threads
        ids = np.array(encoding.ids, dtype=np.uint32)  # (T,)
        return self._encode_parts(text) if np.isin(ids, self._borders).any() else ids

    def _encode_parts(self, text: str) -> np.ndarray:
        """A vocabulary of words has the end of a text among them: the text is cut within each such word."""
        with Calling("the tokenizer cannot encode the text"):
            encoding = self._library.encode(text, add_special_tokens=False)
        spans = [span for i, span in zip(encoding.ids, encoding.offsets, strict=True) if i in self._borders]
        for start, end in spans:
            if end - start < 2:
                raise UserError(
                    f"the tokenizer has no token for {text[start:end]!r} at position {start:,} but the one that ends a "
                    "text: remove it"
                )
        cuts = [0, *[start + 1 for start, _ in spans], len(text)]
        return np.concatenate([self.encode_array(text[a:b]) for a, b in pairwise(cuts)])

    def decode(self, ids: Sequence[int]) -> str:
        return self._join([self._tokens[i] for i in ids])

    def _join(self, tokens: list[str]) -> str:
        decoder = self._library.decoder
        with Calling("the tokenizer cannot decode its ids"):
            return decoder.decode(tokens) if decoder else " ".join(tokens)

    def special_ids(self) -> dict[str, int]:
        return dict(self._special)

    def token_bytes(self) -> np.ndarray | None:
        """See `Tokenizer`. Judged by what becomes of `PROBES`, not of control characters, which many tokenizers lack.

        Where a tokenizer puts a space before a text, that counts too.
        """
        sizes = np.zeros(self.vocab_size, dtype=np.int64)  # (V,)
        for token, i in self._library.get_vocab().items():
            sizes[i] = self._size(token)
        for i, added in self._library.get_added_tokens_decoder().items():
            sizes[i] = 0 if added.special else len(added.content.encode())
        return sizes if all(self._keeps(text, sizes) for text in PROBES) else None

    def _size(self, token: str) -> int:
        """Bytes of the text that a token stands for."""
        if isinstance(self._library.decoder, decoders.ByteLevel):
            return len(token)  # a character a byte
        if re.fullmatch("<0x[0-9A-F]{2}>", token):  # a byte of a character that has no token
            return 1
        return len(self._join(["a", token]).encode()) - 1  # not alone: the space before a text's first token may go

    def _keeps(self, text: str, sizes: np.ndarray) -> bool:
        """Whether a text comes back and its bytes are counted, a space before it aside; a refused one is not lost."""
        try:
            ids = self.encode(text)
        except ValueError:
            return True
        same = self.decode(ids).lstrip(" ") == text.lstrip(" ")
        return same and sizes[ids].sum() - len(text.encode()) in (0, 1)

    def state(self) -> dict[str, Any]:
        return {
            "kind": "pretrained",
            "tokenizer_json": self._json,
            "vocab_size": self.vocab_size,
            "eot_id": self.eot_id,
            "bos_id": self.bos_id,
        }


class HasTokenizer(Protocol):
    """Weights, which were trained with a tokenizer."""

    def tokenizer(self) -> Tokenizer:
        """That one."""


@slot("tokenizer")
def load(source: HasTokenizer, *, path: str | None) -> Tokenizer:
    """The tokenizer of the weights that a run begins with, or of another folder.

    Raises:
        UserError: the folder has none, or a damaged one.
    """
    if path is None:
        return source.tokenizer()
    tokenizer = read_tokenizer(expand_path(path, key="tokenizer.path"))
    if tokenizer is None:
        raise UserError(
            f"tokenizer.path is {path}, where there is no tokenizer: it takes a folder with a tokenizer.json, or with "
            "GPT-2's vocab.json and merges.txt"
        )
    return tokenizer


def read_tokenizer(folder: Path) -> Tokenizer | None:
    """The tokenizer in a model's folder, as the transformers library writes it; None where there is none.

    Raises:
        UserError: a file is damaged, of a kind that must be converted first, or at odds with config.json.
    """
    path = _find(folder)
    if path is None:
        return None
    try:
        content = read_text(path) if path.suffix == ".json" else _classic(path)
        library = parse_tokenizer(content)
    except ValueError as error:
        raise UserError(f"{path} is damaged, or of a newer kind: {error}; fetch it anew") from error
    n_ids = max(library.get_vocab().values(), default=-1) + 1
    vocab_size = _read_json(folder / "config.json").get("vocab_size", n_ids)  # often rounded up
    if n_ids == 0:
        raise UserError(f"{path} has no tokens: fetch it anew")
    if not isinstance(vocab_size, int) or isinstance(vocab_size, bool) or not 0 < vocab_size <= MOST_IDS:
        raise UserError(
            f"{folder / 'config.json'}: vocab_size is {excerpt(vocab_size)}, wanted a whole number from 1 to "
            f"{MOST_IDS:,}"
        )
    if n_ids > vocab_size:
        raise UserError(
            f"{path} has {n_ids:,} ids, but {folder / 'config.json'} says vocab_size {vocab_size:,}: the model has no "
            "embedding for the rest, so the two do not belong together"
        )
    return PretrainedTokenizer(
        tokenizer_json=content, vocab_size=vocab_size, eot_id=_eot_id(folder, library), bos_id=_bos_id(path, library)
    )


def _find(folder: Path) -> Path | None:
    """The file that the tokenizer is in; of GPT-2's two files the merges."""
    path, merges = folder / "tokenizer.json", folder / "merges.txt"
    kind = _read_json(folder / "tokenizer_config.json").get("tokenizer_class") or "GPT2Tokenizer"
    if path.is_file():
        return path
    if merges.is_file() and str(kind).startswith("GPT2"):
        return merges
    for other in (folder / "tokenizer.model", merges):
        if other.is_file():
            raise UserError(
                f"{other} is of a kind that gptlab does not read: make a tokenizer.json of it with the package "
                f"transformers, AutoTokenizer.from_pretrained('{folder}').save_pretrained('{folder}')"
            )
    return None


def _classic(merges: Path) -> str:
    """GPT-2's two files as one tokenizer.json."""
    vocab = merges.with_name("vocab.json")
    with Calling("it does not go with vocab.json"):
        for path in (vocab, merges):
            read_bytes(path)  # the library would wait for a pipe, and read a file of any size
        library = tokenizers.Tokenizer(models.BPE.from_file(str(vocab), str(merges)))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    return library.to_str()


def _eot_id(folder: Path, library: tokenizers.Tokenizer) -> int | None:
    """The end of a text by the first file that names one; of several that a chat model may end with, the first."""
    vocab = library.get_vocab()
    used = set(vocab.values())  # a config made by default names one that a small vocabulary lacks
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        token = _read_json(folder / name).get("eos_token")
        text = token.get("content") if isinstance(token, dict) else token
        if not isinstance(text, str | None):
            raise UserError(f"{folder / name}: eos_token is {excerpt(token)}, wanted the token's text: fetch it anew")
        if text in vocab:
            return vocab[text]
    for name in ("generation_config.json", "config.json"):
        ids = _read_json(folder / name).get("eos_token_id")
        for i in ids if isinstance(ids, list) else [ids]:
            if not isinstance(i, int | None) or isinstance(i, bool):
                raise UserError(
                    f"{folder / name}: eos_token_id is {excerpt(ids)}, wanted one id or several: fetch it anew"
                )
            if i in used:
                return i
    return None


def _bos_id(path: Path, library: tokenizers.Tokenizer) -> int | None:
    """What the tokenizer itself puts before a text."""
    if library.post_processor is None:
        return None
    with Calling(f"{path} cannot encode the letter a"):
        plain, whole = (library.encode("a", add_special_tokens=added).ids for added in (False, True))
    n_before = next(n for n in range(len(whole) + 1) if whole[n : n + len(plain)] == plain)
    if n_before > 1:
        raise UserError(f"{path} puts {n_before} ids before a text, and gptlab knows only models that begin with one")
    return whole[0] if n_before else None


def _read_json(path: Path) -> dict[str, Any]:
    """A file's JSON object, empty where there is no file."""
    return read_object(path) if path.is_file() else {}
