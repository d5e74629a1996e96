"""TextData from files to windows, and the published texts."""

from pathlib import Path

import numpy as np
import pytest
import torch

from gptlab.data.text.dataset import TextData
from gptlab.data.text.prepared import first_words
from gptlab.tokenizer.bytes import ByteTokenizer as Bytes
from gptlab.tokenizer.protocol import Tokenizer
from tests.support.data import ByteTokenizer, CountingReader, text_data


@pytest.fixture
def alphabet(tmp_path: Path) -> Path:
    path = tmp_path / "a.txt"
    path.write_text("".join(chr(97 + place % 26) for place in range(1000)))
    return path


def test_the_stand_in_satisfies_the_protocol() -> None:
    tokenizer: Tokenizer = ByteTokenizer(eot=True)
    assert tokenizer.decode(tokenizer.encode("Größe")) == "Größe"


def test_prepared_text(alphabet: Path, tmp_path: Path) -> None:
    data = text_data(alphabet, tmp_path, batch_size=3, n_workers=1).prepare(ByteTokenizer(eot=True), context_length=16)
    assert (len(data.train), len(data.val)) == (len(range(0, 900 - 16, 16)), 7)
    assert (data.batch_size, data.n_workers, TextData.gives) == (3, 1, ("ids", "targets"))
    assert data.train[np.array([1])]["ids"].tolist() == [list(b"qrstuvwxyzabcdef")]


def test_validation_begins_where_training_ends(alphabet: Path, tmp_path: Path) -> None:
    data = text_data(alphabet, tmp_path).prepare(ByteTokenizer(eot=True), context_length=16)
    assert bytes(data.val[np.array([0])]["ids"][0].tolist()).decode() == alphabet.read_text()[900:916]


def test_stride_is_for_training_only(alphabet: Path, tmp_path: Path) -> None:
    data = text_data(alphabet, tmp_path, stride=4).prepare(ByteTokenizer(eot=True), context_length=16)
    assert (len(data.train), len(data.val)) == (len(range(0, 900 - 16, 4)), 7)


def test_a_batch_may_be_given_in_tokens(alphabet: Path, tmp_path: Path) -> None:
    def batch_size(batch_tokens: int) -> int:
        data = text_data(alphabet, tmp_path, batch_size=9, batch_tokens=batch_tokens)
        return data.prepare(ByteTokenizer(eot=True), context_length=16).batch_size

    assert (batch_size(64), batch_size(63), batch_size(16)) == (4, 3, 1)
    with pytest.raises(ValueError, match=r"data\.batch_tokens is \d+: it must be at least 16, a window of"):
        batch_size(15)


def test_the_tail_is_scored_or_not(alphabet: Path, tmp_path: Path) -> None:
    scored = {}
    for score_tail in (True, False):
        data = text_data(alphabet, tmp_path, score_tail=score_tail).prepare(ByteTokenizer(eot=True), context_length=16)
        scored[score_tail] = int((data.val[np.arange(len(data.val))]["targets"] >= 0).sum())
    assert scored == {True: 99, False: 96}


def test_the_fingerprint_changes_with_the_windows(alphabet: Path, tmp_path: Path) -> None:
    def fingerprint(context_length: int = 16, *, eot: bool = True, **changes: object) -> str:
        data = text_data(alphabet, tmp_path, **changes)
        return data.prepare(ByteTokenizer(eot=eot), context_length=context_length).fingerprint

    first = fingerprint()
    assert fingerprint(batch_size=5, n_workers=3) == first
    assert fingerprint(stride=16) == first
    others = [fingerprint(8), fingerprint(eot=False), fingerprint(stride=4), fingerprint(val_fraction=0.2)]
    assert len({first, *others}) == 5


def test_a_second_run_reads_nothing(alphabet: Path, tmp_path: Path) -> None:
    reader = CountingReader(field="text", separator=None)
    for _ in range(2):
        data = text_data(alphabet, tmp_path, reader=reader)
        data.training_text()
        data.prepare(ByteTokenizer(eot=True), context_length=16)
    assert reader.n_reads == 2  # the index and the tokens of the first run


@pytest.mark.parametrize(
    ("context_length", "changes", "sentence"),
    [
        (
            900,
            {},
            r"the train split has 900 tokens, but a window of model\.context_length=900 needs 901.*give more text",
        ),
        (100, {"score_tail": False}, r"the val split has 100 tokens, but .*needs 101.*lower model\.context_length"),
        (10, {"val_fraction": 0.001}, r"the val split has 1 tokens, but .*needs 2, .*with data\.val_fraction"),
    ],
)
def test_a_text_shorter_than_a_window_is_reported(
    alphabet: Path, tmp_path: Path, context_length: int, changes: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        text_data(alphabet, tmp_path, **changes).prepare(ByteTokenizer(eot=True), context_length=context_length)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"batch_size": 0}, r"data\.batch_size is 0: it must be at least 1"),
        ({"n_workers": -1}, r"data\.n_workers is -1: it must be at least 0"),
        ({"stride": 0}, r"data\.stride is 0: it must be at least 1"),
    ],
)
def test_impossible_numbers_are_reported(
    alphabet: Path, tmp_path: Path, changes: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        text_data(alphabet, tmp_path, **changes)


def test_the_cache_may_be_in_the_home_folder(alphabet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    text_data(alphabet, Path("~/mine")).training_text()
    assert (tmp_path / "mine" / "indexes").is_dir()


def test_the_verdict(shared_data: Path, tmp_path: Path) -> None:
    """Check the sizes of "Build a Large Language Model", chapter 5.

    18,431 characters are trained on; with GPT-2's tokens they make 18 windows.
    """
    gpt2 = pytest.importorskip("gptlab.tokenizer.gpt2").load(encoding="gpt2")
    data = text_data(shared_data / "the-verdict.txt", tmp_path, score_tail=False)
    assert len("".join(data.training_text())) == 18431
    prepared = data.prepare(gpt2, context_length=256)
    assert prepared.train[np.arange(len(prepared.train))]["ids"].shape == (18, 256)  # 4,608 tokens
    assert prepared.val[np.arange(len(prepared.val))]["ids"].numel() == 512
    text = (shared_data / "the-verdict.txt").read_text()
    ids = torch.tensor(gpt2.encode(text[:18431]))
    assert torch.equal(prepared.train[np.arange(18)]["ids"].flatten(), ids[:4608])


def test_tiny_shakespeare(shared_data: Path, tmp_path: Path) -> None:
    """Check nanoGPT's split: 1,003,854 characters to train, 111,540 to validate."""
    data = text_data(shared_data / "tiny-shakespeare.txt", tmp_path)
    corpus = data.prepare(ByteTokenizer(eot=True), context_length=64).corpus
    assert (corpus.train.n_tokens, corpus.val.n_tokens) == (1_003_854, 111_540)
    text = (shared_data / "tiny-shakespeare.txt").read_bytes()
    assert np.fromfile(corpus.train.shards[0].path, "uint16").tolist() == list(text[:1_003_854])


@pytest.mark.parametrize(
    ("text", "within", "context_length", "prompt"),
    [
        (
            "In the beginning God created the heaven and the earth",
            False,
            256,
            "In the beginning God created the heaven and",
        ),
        ("ginning God created the heaven", True, 256, "God created the heaven"),
        ("In the beginning God created the heaven", False, 32, "In the beginning"),  # whole words of half a context
        ("天地玄黄宇宙洪荒日月盈昃" * 500, False, 256, "天地玄黄宇宙洪荒日月盈昃" + "天地玄黄宇宙洪荒日"),
        ("天地玄黄宇宙洪荒日月盈昃" * 500, True, 32, "天地玄黄宇"),
        ("\ufffd\ufffd地玄黄\ufffd", True, 32, "地玄黄"),
        ("word", False, 1, "w"),
        ("", False, 8, ""),
    ],
)
def test_a_sample_s_prompt_is_bounded_by_tokens_in_a_text_without_blanks_too(
    text: str, within: bool, context_length: int, prompt: str
) -> None:
    tokenizer = Bytes(end_of_text=True)
    found = first_words(text, tokenizer, within=within, context_length=context_length)
    assert found == prompt
    assert len(tokenizer.encode(found)) <= max(1, min(64, context_length // 2))
