"""A tokenizer as files that the transformers library opens."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from tiktoken_ext.openai_public import r50k_pat_str  # type: ignore[import-untyped]
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Library

from gptlab.tokenizer.merges import LATIN_1, merges_of
from gptlab.tokenizer.protocol import Tokenizer
from gptlab.tokenizer.text import END_OF_TEXT, UNKNOWN, unused

VISIBLE = {byte: character for character, byte in LATIN_1.items()}


def write_tokenizer(tokenizer: Tokenizer, folder: Path, *, context_length: int, pads: bool = False) -> None:
    """Writes tokenizer.json and tokenizer_config.json, which `transformers.AutoTokenizer` opens: the same ids and text.

    As everywhere in that library, text that looks like a special token becomes it, unless split_special_tokens=True.

    Args:
        context_length: the longest text that the model reads, in tokens.
        pads: padding=True fills rows up, with the end of a text.
    """
    state = tokenizer.state()
    kind = state.pop("kind")
    if kind == "absent":
        return
    content = state["tokenizer_json"] if kind == "pretrained" else BUILDERS[kind](**state).to_str(pretty=True)
    token_of = Library.from_str(content).id_to_token
    ends, begins = tokenizer.eot_id, tokenizer.eot_id if tokenizer.bos_id is None else tokenizer.bos_id
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",  # any other would bring rules of its own
        "model_max_length": context_length,
        "model_input_names": ["input_ids", "attention_mask"],  # version 4's GPT-2 would add what it reads as types
        "clean_up_tokenization_spaces": False,  # it would delete spaces before marks
        "bos_token": None if begins is None else token_of(begins),
        "eos_token": None if ends is None else token_of(ends),
    }
    if pads:
        config["pad_token"] = config["eos_token"]
    (folder / "tokenizer.json").write_text(content, encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _byte_pairs(*, ranks: dict[str, int], pattern: str, special: dict[str, int]) -> Library:
    tokens = {token.translate(VISIBLE): i for token, i in ranks.items()}
    merges = [(a.translate(VISIBLE), b.translate(VISIBLE)) for a, b in merges_of(ranks)]
    taken = {*ranks.values(), *special.values()}
    names = special | {unused(i): i for i in range(max(taken)) if i not in taken}
    # ignore_merges: as in tiktoken, a chunk that is a token becomes it before anything is merged
    library = Library(models.BPE(vocab=tokens | names, merges=merges, ignore_merges=True))
    if pattern == r50k_pat_str:
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # GPT-2's own, as everybody knows it
    else:
        split = pre_tokenizers.Split(Regex(_for_oniguruma(pattern)), "isolated")
        to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        library.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    library.decoder = decoders.ByteLevel()
    library.add_special_tokens([AddedToken(name, normalized=False) for name in names])
    return library


def _for_oniguruma(pattern: str) -> str:
    """The pattern for the library's regular expressions, in which {1,3}+ means any number of {1,3}.

    In tiktoken's it forbids backtracking; at the end of an alternative, where OpenAI has it, that changes nothing.
    """
    return re.sub(r"(\{\d+,\d+\})\+", r"\1", pattern)


def _bytes(*, end_of_text: bool) -> Library:
    vocab = {chr(byte).translate(VISIBLE): byte for byte in range(256)}
    library = Library(models.BPE(vocab=vocab, merges=[]))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    library.decoder = decoders.ByteLevel()
    library.add_special_tokens([AddedToken(END_OF_TEXT, normalized=False)] * end_of_text)
    return library


def _characters(*, characters: str, unknown: bool, end_of_text: bool) -> Library:
    library, names = _whole_tokens(characters, unknown=unknown, end_of_text=end_of_text)
    library.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    library.decoder = decoders.Sequence([decoders.Replace(names[UNKNOWN], "\ufffd"), decoders.Fuse()])
    return library


def _words(*, words: list[str], unknown: bool, end_of_text: bool) -> Library:
    """As `gptlab.tokenizer.word` splits and joins: blanks are dropped, and a space put before all but some marks.

    The word <|endoftext|> that was not learned is the special token here, though text, since a word is nothing else.
    """
    library, names = _whole_tokens(words, unknown=unknown, end_of_text=end_of_text)
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[\s\x1c-\x1f]"), "removed"),
            pre_tokenizers.Split(Regex(r"""[,.:;?_!"()']|--"""), "isolated"),
        ]
    )
    library.decoder = decoders.Sequence(
        [
            *[decoders.Replace(name, shown) for shown, name in names.items() if name != shown],
            decoders.WordPiece(prefix=" ", cleanup=False),  # a space before each but the first; no word begins with one
            decoders.Replace(Regex(r"""^ (?=[,.:;?!"()'])"""), ""),
        ]
    )
    return library


def _whole_tokens(tokens: Sequence[str], *, unknown: bool, end_of_text: bool) -> tuple[Library, dict[str, str]]:
    """A vocabulary without parts of tokens, and how the special ones are called in it."""
    names = {name: _unlike(tokens, name) for name in (END_OF_TEXT, UNKNOWN)}
    special = [names[END_OF_TEXT]] * end_of_text + [names[UNKNOWN]] * unknown
    vocab = {token: i for i, token in enumerate([*tokens, *special])}
    library = Library(models.WordLevel(vocab=vocab, unk_token=names[UNKNOWN]))  # not in the vocabulary: it is refused
    library.add_special_tokens([AddedToken(names[END_OF_TEXT], normalized=False)] * end_of_text)
    return library, names


def _unlike(tokens: Sequence[str], name: str) -> str:
    """The name, or one like it, that is part of no token: a text may have had such a word."""
    while any(name in token for token in tokens):
        name = f"{name[:-2]}_|>"
    return name


BUILDERS: dict[str, Callable[..., Library]] = {"bpe": _byte_pairs, "bytes": _bytes, "char": _characters, "word": _words}
