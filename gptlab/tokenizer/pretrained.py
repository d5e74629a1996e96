"""Tokenizers of published weights.

V vocabulary, T tokens.
"""

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tokenizers import AddedToken, decoders

from gptlab.errors import UserError
from gptlab.slots import slot
from gptlab.storage.excerpts import excerpt
from gptlab.storage.files import expand_path, read_text
from gptlab.storage.foreign.recognition import recognised
from gptlab.tokenizer.aliases import SpecialTokenEncoder
from gptlab.tokenizer.folder import (
    convert_gpt2_files,
    drop_added_tokens,
    find_file,
    named_tokens,
    read_bos_id,
    read_end_ids,
    read_vocab_size,
)
from gptlab.tokenizer.library import MAX_IDS, library_errors, parse_tokenizer
from gptlab.tokenizer.protocol import EncodedParts, Tokenizer
from gptlab.tokenizer.text import encode_unicode, unused_name

# Texts with characters that tokenizers may lose: blanks, capitals, accents, compatibility and rare characters.
# All are in normal form C: some tokenizers normalise a text first, as our cleaning does, and that counts as lossless.
BLANK_TEXTS = [" ", "  ", "\n\n", "a \t b\r\n  c"]
ROUND_TRIP_TEXTS = [*BLANK_TEXTS, "Don't you , NOW ?", "naïve Ångström", "ﬁ Ａ² №", "Жя", "東京 かな", "🙂👩\u200d👧"]


class PretrainedTokenizer:
    """Tokenizer of a `tokenizer.json`.

    Text never becomes a special token.

    Args:
        tokenizer_json: the file's content.
        vocab_size: V, rows of the model's embedding; ids without a token decode to a name.
        end_ids: ids that end a text or an answer; the first is `eot_id`.
        bos_id: id of the first token of each training sequence, None without one.

    Raises:
        UserError: the content is not a tokenizer.
    """

    def __init__(self, *, tokenizer_json: str, vocab_size: int, end_ids: list[int], bos_id: int | None) -> None:
        self._json, self._library = tokenizer_json, parse_tokenizer(tokenizer_json)
        vocab = self._library.get_vocab()
        ids = [vocab_size - 1, *end_ids, *([] if bos_id is None else [bos_id]), *vocab.values()]
        if not all(isinstance(i, int) and 0 <= i < min(vocab_size, MAX_IDS) for i in ids):
            raise UserError(
                f"the tokenizer has ids outside its vocabulary of {excerpt(vocab_size)}, or above {MAX_IDS:,}: "
                "fetch it again"
            )
        self.vocab_size, self.end_ids, self.bos_id = vocab_size, tuple(end_ids), bos_id
        self.eot_id = end_ids[0] if end_ids else None
        self.unused_ids = tuple(sorted({*range(vocab_size)} - {*vocab.values()}))
        self._tokens = [unused_name(i) for i in range(vocab_size)]
        for token, i in vocab.items():
            self._tokens[i] = token
        self._boundary_ids = [i for i in (self.eot_id, bos_id) if i is not None]
        added = self._library.get_added_tokens_decoder()
        # some files list boundaries as ordinary tokens
        plain = {i: AddedToken(self._tokens[i], normalized=False) for i in self._boundary_ids if i not in added}
        self._special_tokens = {
            i: token for i, token in (added | plain).items() if token.special or i in self._boundary_ids
        }
        self._library.add_special_tokens([self._special_tokens[i] for i in self._boundary_ids])
        self._library.encode_special_tokens = True  # text that looks like a special token stays text
        unknown = self._library.token_to_id(getattr(self._library.model, "unk_token", None) or "")
        self._checked_ids = np.array([*self._boundary_ids, *(self._special_tokens.keys() - {unknown})])

    def encode(self, text: str) -> list[int]:
        return self.encode_array(text).tolist()

    def encode_array(self, text: str) -> np.ndarray:
        """Return the ids of a text.

        Shape: (T,) uint32. Releases Python's global lock.

        Raises:
            UserError: the tokenizer has no token for a part of the text.
        """
        encode_unicode(text, "utf-8")  # raises for half of a surrogate pair, as in every tokenizer
        with library_errors("the tokenizer cannot encode the text"):
            [encoding] = self._library.encode_batch_fast([text], add_special_tokens=False)  # `encode` keeps the lock
        ids = np.array(encoding.ids, dtype=np.uint32)  # (T,)
        if not np.isin(ids, self._checked_ids).any():
            return ids
        return np.array(self.encode_parts([text]).ids, dtype=np.uint32)  # some vocabularies list names as words

    def encode_parts(self, parts: Sequence[str | int]) -> EncodedParts:
        for part in parts:
            if isinstance(part, str):
                encode_unicode(part, "utf-8")
        return self._parts_encoder.encode(parts)

    @cached_property
    def _parts_encoder(self) -> SpecialTokenEncoder:
        return SpecialTokenEncoder(self._json, self._special_tokens, self._boundary_ids)

    def decode(self, ids: Sequence[int]) -> str:
        return self._join([self._tokens[i] for i in ids])

    def _join(self, tokens: list[str]) -> str:
        decoder = self._library.decoder
        with library_errors("the tokenizer cannot decode its ids"):
            return decoder.decode(tokens) if decoder else " ".join(tokens)

    def special_ids(self) -> dict[str, int]:
        return {token.content: i for i, token in self._special_tokens.items()}

    def token_bytes(self) -> np.ndarray | None:
        """Return the bytes of each token's text.

        The result is None if text can be lost, as tested with ROUND_TRIP_TEXTS. These have no control characters, which
        many tokenizers lack. Shape: (V,) int64. A space that the tokenizer puts before a text counts as a byte.
        """
        sizes = np.zeros(self.vocab_size, dtype=np.int64)  # (V,)
        for token, i in self._library.get_vocab().items():
            sizes[i] = self._token_size(token)
        for i, added in self._library.get_added_tokens_decoder().items():
            sizes[i] = 0 if added.special else len(added.content.encode())
        return sizes if all(self._round_trips(text, sizes) for text in ROUND_TRIP_TEXTS) else None

    def _token_size(self, token: str) -> int:
        """Return the bytes of a token's text."""
        if isinstance(self._library.decoder, decoders.ByteLevel):
            return len(token)  # one character per byte
        if re.fullmatch("<0x[0-9A-F]{2}>", token):  # one byte of a character without a token
            return 1
        return len(self._join(["a", token]).encode()) - 1  # a decoder may strip the first space

    def _round_trips(self, text: str, sizes: np.ndarray) -> bool:
        """Return whether a text survives encoding.

        It must decode to itself, and its bytes must be counted. A leading space is ignored. A text that cannot be
        encoded raises later, so it counts as not lost.
        """
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
            "end_ids": list(self.end_ids),
            "bos_id": self.bos_id,
        }


class HasTokenizer(Protocol):
    """Weights that were trained with a tokenizer."""

    def tokenizer(self) -> Tokenizer:
        """Return the weights' tokenizer."""


@slot("tokenizer")
def load(source: HasTokenizer, *, path: str | None) -> Tokenizer:
    """Load the tokenizer of pretrained weights.

    Args:
        source: the run's initial weights.
        path: folder to read instead; None takes the weights' tokenizer.

    Raises:
        UserError: the folder has no tokenizer, or a damaged one.
    """
    if path is None:
        return source.tokenizer()
    folder = expand_path(path, key="tokenizer.path")
    with recognised(folder):
        tokenizer = read_tokenizer(folder)
        if tokenizer is None:
            raise UserError(
                f"tokenizer.path is {path}, which has no tokenizer: give a folder with a tokenizer.json, or with "
                "GPT-2's vocab.json and merges.txt"
            )
        return tokenizer


def read_tokenizer(folder: Path) -> Tokenizer | None:
    """Read the tokenizer of a model's folder.

    Returns None if there is none. The files are those of the transformers library.

    Raises:
        UserError: a file is damaged, must be converted first, or contradicts config.json.
    """
    path = find_file(folder)
    if path is None:
        return None
    try:
        content = read_text(path) if path.suffix == ".json" else convert_gpt2_files(path)
        library = parse_tokenizer(content)
    except ValueError as error:
        raise UserError(f"{path} is damaged or in a newer format: {error}; fetch it again") from error
    n_ids = max(library.get_vocab().values(), default=-1) + 1
    if n_ids == 0:
        raise UserError(f"{path} has no tokens: fetch it again")
    vocab_size = read_vocab_size(folder, default=n_ids)
    if tokens := named_tokens(folder, library):
        library.add_tokens(tokens)
        content = library.to_str()
    if max(library.get_vocab().values()) >= vocab_size:
        content = drop_added_tokens(content, library, path=path, vocab_size=vocab_size)
        library = parse_tokenizer(content)
    return PretrainedTokenizer(
        tokenizer_json=content,
        vocab_size=vocab_size,
        end_ids=read_end_ids(folder, library),
        bos_id=read_bos_id(path, library),
    )
