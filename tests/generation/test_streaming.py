"""Streamed pieces join to the decoded text, cut at the first stop text."""

import random
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
import tokenizers
import torch

from gptlab.generation.streaming import REPLACEMENT, TextPieces, finished_texts, stream_text
from gptlab.tokenizer.bytes import ByteTokenizer
from gptlab.tokenizer.word import WordTokenizer

TEXT = "naïve 東京 🙂👩‍👩‍👧 déjà-vu \u00a0end\r\n"  # one to four bytes a character
BYTES = ByteTokenizer(end_of_text=True)
EOT = 256


class CountingTokenizer(ByteTokenizer):
    """A tokenizer that counts the ids it decodes."""

    n_decoded = 0

    def decode(self, ids: Sequence[int]) -> str:
        self.n_decoded += len(ids)
        return super().decode(ids)


class ChunkTokenizer:
    """Ids of one to four bytes, blind to where characters begin, as byte-level BPE is."""

    def __init__(self, seed: int) -> None:
        draw = random.Random(seed)
        text = TEXT.encode() * 3
        starts = [draw.randrange(len(text) - 4) for _ in range(200)]
        self.tokens = [text[start : start + draw.randint(1, 4)] for start in starts]
        self.tokens += [bytes([byte]) for byte in range(256)]

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(self.tokens[i] for i in ids).decode("utf-8", errors="replace")


def cut(text: str, stop: list[str]) -> str:
    """The text before the stop text that is complete first, found character by character."""
    for n in range(len(text) + 1):
        if ends := [s for s in stop if text[:n].endswith(s)]:
            return text[: n - max(map(len, ends))]
    return text


def pieces(
    tokenizer: Any,
    ids: Iterable[int],
    stop: Sequence[str] = (),
    before: Sequence[int] = (),
    end_ids: Sequence[int] = (),
) -> list[str]:
    return list(stream_text(tokenizer, iter(ids), before=before, end_ids=end_ids, stop=stop))


def test_characters_come_whole_and_as_soon_as_they_are_complete() -> None:
    assert pieces(BYTES, BYTES.encode(TEXT)) == list(TEXT)


@pytest.mark.parametrize("seed", range(20))
def test_random_ids_stream_as_they_decode(seed: int) -> None:
    tokenizer, draw = ChunkTokenizer(seed), random.Random(seed)
    for length in (1, 5, 30, 300):
        for vocabulary in (range(200), range(200, 456), range(456)):
            ids = draw.choices(vocabulary, k=length)
            assert "".join(pieces(tokenizer, ids)) == tokenizer.decode(ids)


@pytest.mark.parametrize("seed", range(20))
def test_random_ids_are_cut_at_the_first_stop_text(seed: int) -> None:
    tokenizer, draw = ChunkTokenizer(seed), random.Random(seed)
    for _ in range(20):
        ids = draw.choices(range(456), k=60)
        text = tokenizer.decode(ids)
        starts = [draw.randrange(len(text) - 6) for _ in range(3)]
        stop = [text[start : start + draw.randint(1, 6)] for start in starts]
        assert "".join(pieces(tokenizer, ids, stop)) == cut(text, stop)


@pytest.mark.parametrize(
    ("text", "stop", "wanted"),
    [
        ("one\n\ntwo", ["\n\n"], ["o", "n", "e"]),
        ("one\ntwo", ["\n\n"], ["o", "n", "e", "\nt", "w", "o"]),
        ("aab", ["ab"], ["a"]),
        ("aaac", ["aab"], ["a", "aac"]),
        ("xabcd", ["abcd", "b"], ["x", "a"]),
        ("ends a", ["a stop"], [*"ends ", "a"]),
        ("stop", ["stop"], []),
        ("é.", ["."], ["é"]),
    ],
)
def test_text_that_may_begin_a_stop_text_waits(text: str, stop: list[str], wanted: list[str]) -> None:
    assert pieces(BYTES, BYTES.encode(text), stop) == wanted


def test_no_id_is_read_after_a_stop_text_or_the_end() -> None:
    for last, stop in ((ord("."), ["."]), (EOT, []), (ord("!"), [])):
        ids = iter([*b"ab", last, *b"cd"])
        assert list(stream_text(BYTES, ids, before=[], end_ids=[EOT, ord("!")], stop=stop)) == ["a", "b"]
        assert list(ids) == [*b"cd"]


@pytest.mark.parametrize("last", [[], [EOT]], ids=["cut off", "ended"])
def test_waiting_text_is_sent_at_the_end(last: int) -> None:
    assert pieces(BYTES, [*"ab🙂".encode()[:-1], *last], ["bc"], end_ids=[EOT]) == ["a", "b\ufffd"]


def test_a_stop_text_within_waiting_text_is_found_at_the_end() -> None:
    assert pieces(BYTES, [*b"a", 0xF0], ["\ufffd"]) == ["a"]


def test_words_come_with_the_spaces_between_them() -> None:
    tokenizer = WordTokenizer(
        words=sorted({"(", ")", ",", ".", "Hello", "again", "world"}), unknown=True, end_of_text=True
    )
    text = "Hello, world (again, again). " * 10 + "unheard"
    ids = tokenizer.encode(text)
    streamed = pieces(tokenizer, ids)
    assert "".join(streamed) == tokenizer.decode(ids)
    assert streamed[:4] == ["Hello", ",", " world", "("]


@pytest.mark.parametrize(
    "run", [b"\x80", b"\xff", b"\xe2\x82", b"\xf0\x9f\x98", b"\xff\xf0\x9f", b"\x98\xf0\x9f\x98\xf0"], ids=repr
)
def test_broken_bytes_stream_as_they_decode(run: bytes) -> None:
    for n in range(1, 80):
        ids = [*(run * n)[:n], *"é.".encode()]
        assert "".join(pieces(BYTES, ids)) == BYTES.decode(ids)


@pytest.mark.parametrize("text", [b"a", b"\x80", b"\xf0\x9f\x98", TEXT.encode()], ids=repr)
def test_the_work_is_linear(text: str) -> None:
    tokenizer = CountingTokenizer(end_of_text=False)
    pieces(tokenizer, [*(text * 2000)[:2000]], ["\n\n"])
    assert tokenizer.n_decoded < 2000 * 30


class SentencePieceTokenizer:
    """Llama 2's kind: a space is put before a text and taken away again, and what has no token falls back to bytes.

    Each byte of a run that is not UTF-8 as a whole becomes a mark of its own.
    """

    def __init__(self) -> None:
        tokens = [*(f"<0x{i:02X}>" for i in range(256)), "<s>", *"\u2581abcé", "\u2581a", "\u2581b", "ab"]
        merges = [("\u2581", "a"), ("\u2581", "b"), ("a", "b")]
        vocab = {token: i for i, token in enumerate(tokens)}
        self.library = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=merges, byte_fallback=True))
        space = [tokenizers.normalizers.Prepend("\u2581"), tokenizers.normalizers.Replace(" ", "\u2581")]
        self.library.normalizer = tokenizers.normalizers.Sequence(space)
        self.library.decoder = tokenizers.decoders.Sequence(
            [
                tokenizers.decoders.Replace("\u2581", " "),
                tokenizers.decoders.ByteFallback(),
                tokenizers.decoders.Fuse(),
                tokenizers.decoders.Strip(" ", 1, 0),
            ]
        )

    def encode(self, text: str) -> list[int]:
        return self.library.encode(text).ids

    def decode(self, ids: Sequence[int]) -> str:
        return self.library.decode(ids)


def test_bytes_that_a_tokenizer_falls_back_to_stream_too() -> None:
    assert pieces(SentencePieceTokenizer(), TEXT.encode() * 3) == list(TEXT * 3)


WORDS = WordTokenizer(words=sorted(["(", ")", ",", ".", "--", "a", "b", "c"]), unknown=True, end_of_text=True)


@pytest.mark.parametrize(
    ("tokenizer", "alphabet"),
    [
        (WORDS, ["a", "b", "unheard", ",", " ", "(", ")", "--", "."]),
        (SentencePieceTokenizer(), ["a", "b", "ab", " ", "  ", "é", "東", "🙂", "\n"]),
        (BYTES, ["a", " ", "é", "東", "🙂"]),
    ],
    ids=["words", "sentencepiece", "bytes"],
)
def test_text_after_a_prompt_includes_the_space_between_them(tokenizer: Any, alphabet: list[str]) -> None:
    draw = random.Random(5)
    for _ in range(200):
        ids = tokenizer.encode("".join(draw.choices(alphabet, k=draw.randrange(10))))
        for n in range(len(ids) + 1):
            before = tokenizer.decode(ids[:n])
            if REPLACEMENT not in before:  # or the prompt would end within a character
                assert before + "".join(pieces(tokenizer, ids[n:], before=ids[:n])) == tokenizer.decode(ids)


def test_a_prompt_and_broken_bytes_after_it() -> None:
    draw = random.Random(6)
    for _ in range(2000):
        before = BYTES.encode("".join(draw.choices(["a", "é", "東", "\ufffd"], k=draw.randrange(4))))
        new = draw.choices(b"a\x80\xf0\x9f\x98\xe2\xef\xbf\xbd", k=draw.randint(1, 12))
        whole = BYTES.decode([*before, *new])
        assert BYTES.decode(before) + "".join(pieces(BYTES, new, before=before)) == whole


def test_several_samples_end_each_in_its_own_place() -> None:
    texts = [b"yes.no", b"ab\x100000", "é?".encode() + b"000", b"0123456"]
    rows = [[*text[:2], EOT, *[EOT] * 3] if i == 1 else [*text[:6]] for i, text in enumerate(texts)]
    steps = (torch.tensor(column) for column in zip(*rows, strict=True))
    assert finished_texts(BYTES, steps, prompts=[[]] * 4, max_new_tokens=6, end_ids=[EOT], stop=[".", "?"]) == [
        ("yes", False),
        ("ab", False),
        ("é", False),
        ("012345", True),
    ]


def test_a_text_says_whether_it_was_cut_at_its_limit() -> None:
    def read(*ids: int) -> tuple[str, bool]:
        text = TextPieces(stream_text(BYTES, iter(ids), before=[], end_ids=[EOT], stop=["."]))
        return "".join(text), text.cut

    assert read(*b"ab", EOT, *b"c") == ("ab", False)
    assert read(*b"ab.", *b"c") == ("ab", False)
    assert read(*b"abc") == ("abc", True)
    unread = TextPieces(stream_text(BYTES, iter(b"abc"), before=[], end_ids=[EOT], stop=[]))
    next(unread)
    unread.close()
    assert (list(unread), unread.cut) == ([], False)


def test_no_step_is_taken_once_all_samples_have_ended() -> None:
    steps = iter([torch.tensor([ord("a"), ord(".")]), torch.tensor([ord("."), ord("x")]), torch.tensor([0, 0])])
    assert finished_texts(BYTES, steps, prompts=[[]] * 2, max_new_tokens=3, end_ids=[EOT], stop=["."]) == [
        ("a", False),
        ("", False),
    ]
    assert len(list(steps)) == 1


def test_a_longer_prompt_s_own_ids_are_no_text_of_its_sample() -> None:
    prompts = [BYTES.encode("a"), BYTES.encode("bcd")]
    rows = [b"12345", b"cdxyz"]  # what follows the shortest prompt: of the other one first the rest of itself
    steps = (torch.tensor(column) for column in zip(*rows, strict=True))
    found = finished_texts(BYTES, steps, prompts=prompts, max_new_tokens=3, end_ids=[EOT], stop=[])
    assert [sample.text for sample in found] == ["123", "xyz"]
