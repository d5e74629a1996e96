"""Chunks can be cleaned and tokenised one by one, as if the text were whole."""

import itertools
import random

import pytest
import tiktoken

from gptlab.data.text.chunking import cut_blocks, cut_chunks, split_documents
from gptlab.data.text.cleaning import FUNCTIONS, parse_cleaning

GPT2 = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
GPT4 = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|"""
    r"""\s+(?!\S)|\s"""
)
MERGES = (
    b"th",
    b"the",
    b" t",
    b" th",
    b" the",
    b"he",
    b"\n\n",
    b"an",
    b" a",
    b"  ",
    b"er",
    b" 1",
    b"11",
    b"'s",
    b"_\n",
)
NASTY = (
    *(
        "a",
        "the",
        "The",
        "er",
        "\u00e9",
        "e\u0301",
        "\u00df",
        "\u5b57",
        "\ud55c",
        "\u1112\u1161\u11ab",
        "1",
        "11",
        "\u0663",
    ),
    *(
        "_",
        ".",
        ",",
        "'s",
        "\u0301",
        "\u201c",
        "\u2019",
        "!?",
        "\U0001f642",
        "\u200d",
        "\x00",
        "\ufeff",
        "\x85",
        "\f",
        "\u2028",
        "\xad",
    ),
    *("\r\n", "\r", "\n", "\n\n\n", " ", "  ", "\t", "\xa0"),
)
PLAIN = ["the", "and", "er", "Ünter", "1", "12"]


def nasty_text(seed: int, n_words: int = 300) -> str:
    """Return words between single spaces and newlines, half of them odd characters."""
    rng = random.Random(seed)
    parts = [rng.choice(PLAIN) + rng.choice(" \n") if rng.random() < 0.5 else rng.choice(NASTY) for _ in range(n_words)]
    return "".join(parts)


def chunks_of(text: str, block: int, size: int, limit: int = 1 << 20) -> list[str]:
    return [chunk for chunk, _ in cut_chunks(cut_blocks(text, block), size=size, limit=limit)]


@pytest.mark.parametrize("seed", range(40))
def test_cleaning_chunks_is_cleaning_the_whole(seed: int) -> None:
    text = nasty_text(seed)
    names = random.Random(seed).sample(list(FUNCTIONS), k=len(FUNCTIONS))
    clean = parse_cleaning(names)
    chunks = chunks_of(text, block=random.Random(seed).randint(1, 50), size=5)
    assert len(chunks) > 5
    assert "".join(map(clean, chunks)) == clean(text), names


@pytest.mark.parametrize("pattern", [GPT2, GPT4], ids=["gpt2", "gpt4"])
@pytest.mark.parametrize("cleaned", [False, True])
def test_tokenising_chunks_is_tokenising_the_whole(pattern: str, cleaned: bool) -> None:
    ranks = {bytes([byte]): byte for byte in range(256)} | {merge: 256 + i for i, merge in enumerate(MERGES)}
    encoding = tiktoken.Encoding("tiny", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    clean = parse_cleaning(list(FUNCTIONS) if cleaned else [])
    for seed in range(100):
        text = nasty_text(seed)
        chunks = [clean(chunk) for chunk in chunks_of(text, block=37, size=5)]
        ids = list(itertools.chain.from_iterable(map(encoding.encode_ordinary, chunks)))
        assert ids == encoding.encode_ordinary(clean(text)), seed


def test_chunks_are_in_order_and_only_the_last_is_marked() -> None:
    text = nasty_text(1, n_words=5000)
    chunks = list(cut_chunks(cut_blocks(text, 100), size=50))
    assert "".join(chunk for chunk, _ in chunks) == text
    assert [last for _, last in chunks] == [False] * (len(chunks) - 1) + [True]
    assert max(len(chunk) for chunk, _ in chunks) < 150  # a safe place is never far in this text


def test_a_text_without_a_safe_place_is_still_cut() -> None:
    chunks = chunks_of("x" * 1000, block=64, size=50, limit=200)
    assert [len(chunk) for chunk in chunks] == [200] * 5


def test_an_empty_document_is_one_empty_chunk() -> None:
    assert list(cut_chunks([])) == [("", True)]


@pytest.mark.parametrize("separator", ["|", "<->", "aab", "\n\n"])
@pytest.mark.parametrize("block", [1, 2, 3, 7, 1000])
def test_documents_of_a_stream_match_those_of_the_whole_text(separator: str, block: int) -> None:
    rng = random.Random(block)
    text = "".join(rng.choice(["a", "b", "|", "<->", "<-", "->", "\n", "\n\n", "aab"]) for _ in range(300))
    assert ["".join(document) for document in split_documents(cut_blocks(text, block), separator)] == text.split(
        separator
    )
