"""Files of a published tokenizer, as the transformers library writes them."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers

from gptlab.errors import UserError
from gptlab.storage.excerpts import excerpt, excerpt_names
from gptlab.storage.files import read_bytes, read_object
from gptlab.tokenizer.library import MAX_IDS, ids_around, library_errors

TOKEN_RULES = ("single_word", "lstrip", "rstrip", "normalized", "special")
TOKEN_KEYS = (
    *("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"),
    *("additional_special_tokens", "extra_special_tokens"),
)

log = logging.getLogger(__name__)


def find_file(folder: Path) -> Path | None:
    """Return the tokenizer's file, None without one.

    For GPT-2's two files it is merges.txt.
    """
    path, merges = folder / "tokenizer.json", folder / "merges.txt"
    kind = read_settings(folder / "tokenizer_config.json").get("tokenizer_class") or "GPT2Tokenizer"
    if path.is_file():
        return path
    if merges.is_file() and str(kind).startswith("GPT2"):
        return merges
    for other in (folder / "tokenizer.model", merges):
        if other.is_file():
            raise UserError(
                f"{other} is in a format that gptlab cannot read: make a tokenizer.json of it with the package "
                f"transformers, AutoTokenizer.from_pretrained('{folder}').save_pretrained('{folder}')"
            )
    return None


def convert_gpt2_files(merges: Path) -> str:
    """Return GPT-2's vocab.json and merges.txt as one tokenizer.json."""
    vocab = merges.with_name("vocab.json")
    with library_errors("it does not go with vocab.json"):
        for path in (vocab, merges):
            read_bytes(path)  # check both: the library would wait for a pipe, and read a file of any size
        library = tokenizers.Tokenizer(models.BPE.from_file(str(vocab), str(merges)))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    return library.to_str()


def read_vocab_size(folder: Path, *, default: int) -> int:
    """Return the rows of the model's embedding, which are often more than the tokenizer's ids."""
    size = read_settings(folder / "config.json").get("vocab_size", default)
    if not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= MAX_IDS:
        raise UserError(
            f"{folder / 'config.json'}: vocab_size is {excerpt(size)}, wanted a whole number from 1 to "
            f"{MAX_IDS:,}: fetch it again"
        )
    return size


def named_tokens(folder: Path, library: tokenizers.Tokenizer) -> list[AddedToken]:
    """Return the added tokens that only the settings name, as transformers finds them.

    The tokenizer.json lacks them, lists them as ordinary tokens, or finds them by other rules.
    """
    settings, names = (read_settings(folder / name) for name in ("tokenizer_config.json", "special_tokens_map.json"))
    known = {token.content: repr(token) for token in library.get_added_tokens_decoder().values()}
    ruled = [
        token for token in _tokens(settings.get("added_tokens_decoder")) if known.get(token.content) != repr(token)
    ]
    known |= {token.content: repr(token) for token in ruled}
    named = [token for key in TOKEN_KEYS for each in (settings, names) for token in _tokens(each.get(key))]
    for token in named:
        token.special = True  # whatever its rules say
    return ruled + [token for token in named if token.content not in known]


def _tokens(value: Any) -> list[AddedToken]:
    """Return the tokens that a setting names: one, a list, or an object of them."""
    if isinstance(value, dict) and "content" not in value:
        value = list(value.values())
    tokens = map(_token, value if isinstance(value, list) else [value])
    return [token for token in tokens if token is not None]


def _token(value: Any) -> AddedToken | None:
    """Return the token that a text or an object with its rules describes."""
    rules = {"special": True}
    if isinstance(value, dict):
        value, rules = value.get("content"), {rule: value.get(rule) is True for rule in TOKEN_RULES}
    if not isinstance(value, str) or value.encode("utf-8", "ignore").decode() != value:  # no text holds such a name
        return None
    return AddedToken(value, **rules)


def drop_added_tokens(content: str, library: tokenizers.Tokenizer, *, path: Path, vocab_size: int) -> str:
    """Return a tokenizer.json without the added tokens that the model has no embedding for.

    Whoever finetunes a model often adds a token for padding, which the model never reads.

    Args:
        content: the file's content.
        library: the tokenizer in it.
        path: the file, for the messages.
        vocab_size: V, the rows of the embedding.

    Raises:
        UserError: the model has no embedding for another token either.
    """
    if max(library.get_vocab(with_added_tokens=False).values(), default=-1) >= vocab_size:
        raise UserError(
            f"{path} has {max(library.get_vocab().values()) + 1:,} ids, but {path.with_name('config.json')} says "
            f"vocab_size {vocab_size:,}: the model has no embedding for the rest: fetch the files of one model"
        )
    names = [token for token, i in library.get_vocab().items() if i >= vocab_size]
    log.info(
        f"{path}: the model has no embedding for {len(names):,} added token{'s' * (len(names) > 1)} "
        f"({excerpt_names(sorted(names))}), so no text becomes one"
    )
    parsed = json.loads(content)
    kept = [token for token in parsed["added_tokens"] if token["content"] not in names]
    return json.dumps(parsed | {"added_tokens": kept, "padding": None}, ensure_ascii=False)  # padding names one of them


def read_end_ids(folder: Path, library: tokenizers.Tokenizer) -> list[int]:
    """Return the ids that end a text or an answer.

    First come the tokens that the tokenizer's settings name, then the ids at which the model's stop generation. Those
    that the tokenizer lacks are left out: a default config may name one.
    """
    vocab = library.get_vocab()
    used = set(vocab.values())
    ids = [*map(vocab.get, _end_tokens(folder)), *_end_token_ids(folder)]
    return list(dict.fromkeys([i for i in ids if i in used]))


def _end_tokens(folder: Path) -> Iterator[str]:
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        token = read_settings(folder / name).get("eos_token")
        text = token.get("content") if isinstance(token, dict) else token
        if not isinstance(text, str | None):
            raise UserError(f"{folder / name}: eos_token is {excerpt(token)}, wanted the token's text: fetch it again")
        if text is not None:
            yield text


def _end_token_ids(folder: Path) -> Iterator[int]:
    for name in ("generation_config.json", "config.json"):
        ids = read_settings(folder / name).get("eos_token_id")
        for i in ids if isinstance(ids, list) else [ids]:
            if not isinstance(i, int | None) or isinstance(i, bool):
                raise UserError(
                    f"{folder / name}: eos_token_id is {excerpt(ids)}, wanted one id or several: fetch it again"
                )
            if i is not None:
                yield i


def read_bos_id(path: Path, library: tokenizers.Tokenizer) -> int | None:
    """Return the id that the tokenizer prepends to a text."""
    if library.post_processor is None:
        return None
    with library_errors(f"{path} cannot encode the letter a"):
        before, _ = ids_around(library)
    if len(before) > 1:
        raise UserError(
            f"{path} puts {len(before)} ids before a text, and gptlab supports at most one: take another model"
        )
    return before[0] if before else None


def read_settings(path: Path) -> dict[str, Any]:
    """Return a file's JSON object, empty without a file."""
    return read_object(path) if path.is_file() else {}
