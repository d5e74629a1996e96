"""Export of tokenizers to the transformers library."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from tiktoken_ext.openai_public import r50k_pat_str  # type: ignore[import-untyped]
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as LibraryTokenizer

from gptlab.tokenizer.merges import LATIN_1, derive_merges
from gptlab.tokenizer.protocol import Tokenizer
from gptlab.tokenizer.text import END_OF_TEXT, UNKNOWN, unused_name

BYTE_CHARACTERS = {byte: character for character, byte in LATIN_1.items()}  # as GPT-2's files write bytes


NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def write_tokenizer(
    tokenizer: Tokenizer,
    folder: Path,
    *,
    context_length: int,
    pads: bool = False,
    special_tokens: dict[str, str] | None = None,
) -> None:
    """Write the two files that `transformers.AutoTokenizer` opens.

    tokenizer.json and tokenizer_config.json give the same ids and text as ours. As always in that library, text that
    looks like a special token becomes that token, unless split_special_tokens=True.

    Args:
        context_length: maximum tokens that the model reads.
        pads: whether to name a padding token, <|endoftext|>, for padding=True.
        special_tokens: names that a chat template has for special tokens, and no others; None gives it the begin and
            the end of a text.
    """
    state = tokenizer.state()
    kind = state.pop("kind")
    if kind == "absent":
        return
    content = state["tokenizer_json"] if kind == "pretrained" else BUILDERS[kind](**state).to_str(pretty=True)
    names = {i: token for token, i in LibraryTokenizer.from_str(content).get_vocab().items()}
    eos_id, bos_id = tokenizer.eot_id, tokenizer.eot_id if tokenizer.bos_id is None else tokenizer.bos_id
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",  # any other class adds rules of its own
        "model_max_length": context_length,
        "model_input_names": ["input_ids", "attention_mask"],  # version 4 would add token_type_ids
        "clean_up_tokenization_spaces": False,  # it would delete spaces before punctuation
        "bos_token": None if bos_id is None else names[bos_id],
        "eos_token": None if eos_id is None else names[eos_id],
    }
    if pads:
        config["pad_token"] = config["eos_token"]
    if special_tokens is not None:
        config |= {name: special_tokens.get(name) for name in NAMED}
        config["extra_special_tokens"] = {name: text for name, text in special_tokens.items() if name not in NAMED}
    (folder / "tokenizer.json").write_text(content, encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _build_bpe(*, ranks: dict[str, int], pattern: str, special: dict[str, int]) -> LibraryTokenizer:
    tokens = {token.translate(BYTE_CHARACTERS): i for token, i in ranks.items()}
    merges = [(a.translate(BYTE_CHARACTERS), b.translate(BYTE_CHARACTERS)) for a, b in derive_merges(ranks)]
    taken = {*ranks.values(), *special.values()}
    names = special | {unused_name(i): i for i in range(max(taken)) if i not in taken}
    # ignore_merges: as in tiktoken, a pre-token that is a token becomes it before anything is merged
    library = LibraryTokenizer(models.BPE(vocab=tokens | names, merges=merges, ignore_merges=True))
    if pattern == r50k_pat_str:
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # it has GPT-2's pattern built in
    else:
        split = pre_tokenizers.Split(Regex(_for_oniguruma(pattern)), "isolated")
        to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        library.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    library.decoder = decoders.ByteLevel()
    library.add_special_tokens([AddedToken(name, normalized=False) for name in names])
    return library


def _for_oniguruma(pattern: str) -> str:
    """Return a pattern in Oniguruma's syntax.

    There {1,3}+ repeats {1,3}; in tiktoken's syntax it forbids backtracking. In OpenAI's patterns it only ends an
    alternative, where backtracking changes nothing, so the + is dropped.
    """
    return re.sub(r"(\{\d+,\d+\})\+", r"\1", pattern)


def _build_bytes(*, end_of_text: bool) -> LibraryTokenizer:
    vocab = {chr(byte).translate(BYTE_CHARACTERS): byte for byte in range(256)}
    library = LibraryTokenizer(models.BPE(vocab=vocab, merges=[]))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    library.decoder = decoders.ByteLevel()
    library.add_special_tokens([AddedToken(END_OF_TEXT, normalized=False)] * end_of_text)
    return library


def _build_char(*, characters: str, unknown: bool, end_of_text: bool) -> LibraryTokenizer:
    library, names = _build_word_level(characters, unknown=unknown, end_of_text=end_of_text)
    library.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    library.decoder = decoders.Sequence([decoders.Replace(names[UNKNOWN], "\ufffd"), decoders.Fuse()])
    return library


def _build_word(*, words: list[str], unknown: bool, end_of_text: bool) -> LibraryTokenizer:
    """Build the library's version of `WordTokenizer`.

    White space is dropped, and a space is put before all words and all but some punctuation marks. One difference
    remains: the text <|endoftext|> becomes the special token if it is not a word of the vocabulary.
    """
    library, names = _build_word_level(words, unknown=unknown, end_of_text=end_of_text)
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[\s\x1c-\x1f]"), "removed"),
            pre_tokenizers.Split(Regex(r"""[,.:;?_!"()']|--"""), "isolated"),
        ]
    )
    library.decoder = decoders.Sequence(
        [
            *[decoders.Replace(name, shown) for shown, name in names.items() if name != shown],
            decoders.WordPiece(
                prefix=" ", cleanup=False
            ),  # a space before each word but the first; no word begins with one
            decoders.Replace(Regex(r"""^ (?=[,.:;?!"()'])"""), ""),
        ]
    )
    return library


def _build_word_level(
    tokens: Sequence[str], *, unknown: bool, end_of_text: bool
) -> tuple[LibraryTokenizer, dict[str, str]]:
    """Return a library tokenizer without subwords.

    The second result maps each special token to its name there.
    """
    names = {name: _unique_name(tokens, name) for name in (END_OF_TEXT, UNKNOWN)}
    special = [names[END_OF_TEXT]] * end_of_text + [names[UNKNOWN]] * unknown
    vocab = {token: i for i, token in enumerate([*tokens, *special])}
    library = LibraryTokenizer(
        models.WordLevel(vocab=vocab, unk_token=names[UNKNOWN])
    )  # encoding raises if it is not in the vocabulary
    library.add_special_tokens([AddedToken(names[END_OF_TEXT], normalized=False)] * end_of_text)
    return library, names


def _unique_name(tokens: Sequence[str], name: str) -> str:
    """Return a name that no token contains."""
    while any(name in token for token in tokens):
        name = f"{name[:-2]}_|>"
    return name


BUILDERS: dict[str, Callable[..., LibraryTokenizer]] = {
    "bpe": _build_bpe,
    "bytes": _build_bytes,
    "char": _build_char,
    "word": _build_word,
}
