"""Byte pair encoding: the library's ids, learned once, from a sample."""

import logging
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Reference
from tokenizers import models, pre_tokenizers, trainers

from gptlab.tokenizer import bpe
from gptlab.tokenizer.bpe import BytePairTokenizer
from gptlab.tokenizer.merges import sample_chunks
from tests.support.tokenizers import PROSE, InMemoryText, hard_texts, learnable


def learn(text: InMemoryText, folder: Path, *, vocab_size: int = 400, sample_bytes: int = 10**6) -> BytePairTokenizer:
    return bpe.train(text, vocab_size=vocab_size, sample_bytes=sample_bytes, cache_dir=str(folder))


def reference(text: InMemoryText, vocab_size: int) -> Reference:
    """Return the `tokenizers` library's own tokenizer."""
    library = Reference(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    options = {"min_frequency": 2, "initial_alphabet": alphabet, "show_progress": False}
    library.train_from_iterator(text, trainers.BpeTrainer(vocab_size=vocab_size - 1, **options))
    return library


@pytest.mark.parametrize("vocab_size", [257, 300, 700])
def test_ids_match_the_library(tmp_path: Path, vocab_size: int) -> None:
    ours, library = learn(learnable(), tmp_path, vocab_size=vocab_size), reference(learnable(), vocab_size)
    assert (ours.vocab_size, ours.eot_id) == (vocab_size, vocab_size - 1)
    for text in [*hard_texts(2000, seed=2), PROSE * 50]:
        assert ours.encode(text) == library.encode(text).ids


@pytest.mark.parametrize("seed", range(20))
def test_ids_agree_for_tokens_with_several_possible_merges(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)

    def runs(letters: str, longest: int) -> str:
        return " ".join("".join(rng.choices(letters, k=rng.randint(1, longest))) for _ in range(40))

    text = InMemoryText(*[runs(letters, longest) for letters in ("a", "ab", "aab") for longest in (4, 12, 40)])
    ours, library = learn(text, tmp_path), reference(text, 400)
    for unseen in [runs(letters, longest) for letters in ("a", "ab", "abb") for longest in (8, 90, 300)]:
        assert ours.encode(unseen) == library.encode(unseen).ids


def test_learning_twice_gives_the_same_tokenizer(tmp_path: Path) -> None:
    assert learn(learnable(), tmp_path / "one").state() == learn(learnable(), tmp_path / "two").state()


def test_a_short_text_gives_fewer_ids_and_logs_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    tokenizer = learn(InMemoryText("abab abab"), tmp_path)
    assert (tokenizer.vocab_size, tokenizer.eot_id) == (259, 258)
    assert "vocabulary of 259 ids: the text is too short for tokenizer.vocab_size=400" in caplog.text
    assert learn(InMemoryText("", fingerprint="nothing"), tmp_path).vocab_size == 257


@pytest.mark.parametrize(("name", "wrong"), [("vocab_size", 256), ("sample_bytes", 0)])
def test_sizes_that_are_too_small_are_refused(tmp_path: Path, name: str, wrong: int) -> None:
    with pytest.raises(ValueError, match=rf"tokenizer.{name} is {wrong}"):
        learn(learnable(), tmp_path, **{name: wrong})


def test_a_cached_vocabulary_is_not_learned_again(tmp_path: Path) -> None:
    first = learn(learnable(), tmp_path)
    text = learnable()
    assert learn(text, tmp_path).state() == first.state()
    assert text.readings == 0


def test_another_text_size_or_sample_is_learned_anew(tmp_path: Path) -> None:
    learn(learnable(), tmp_path)
    other = InMemoryText(*learnable().chunks, fingerprint="another text")
    for text, sizes in [(other, {}), (learnable(), {"vocab_size": 401}), (learnable(), {"sample_bytes": 10**6 + 1})]:
        learn(text, tmp_path, **sizes)
        assert text.readings > 0


@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b[:-9], lambda b: b.replace(b"259", b"260"), lambda b: b"[]"]
)
def test_a_damaged_file_is_learned_again_with_a_warning(
    tmp_path: Path, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    first = learn(learnable(), tmp_path)
    (file,) = tmp_path.glob("tokenizers/*.json")
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert learn(learnable(), tmp_path).state() == first.state()
    assert f"{file} is damaged" in caplog.text
    assert file.read_bytes() == whole


def test_only_one_of_several_processes_learns(tmp_path: Path) -> None:
    text = learnable()
    with ThreadPoolExecutor(4) as threads:
        states = [t.state() for t in threads.map(lambda _: learn(text, tmp_path), range(4))]
    assert all(state == states[0] for state in states)
    assert text.readings == 2  # once to measure it, once to learn from it
    assert len(list(tmp_path.glob("tokenizers/*.json"))) == 1


def test_a_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    bpe.train(learnable(), vocab_size=300, sample_bytes=10**6, cache_dir="~/here")
    assert list(tmp_path.glob("here/tokenizers/*.json"))


def test_a_sample_is_spread_over_the_text_and_has_about_the_requested_size() -> None:
    text = InMemoryText(*[f"{n:04d}" * 25 for n in range(1000)])  # 100 bytes each
    places = [int(chunk[:4]) for chunk in sample_chunks(text, 10_000)]
    assert len(places) == 100
    assert {after - before for before, after in pairwise(places)} <= {9, 10, 11}
    assert list(sample_chunks(text, 100_000)) == list(text.chunks)
    assert list(sample_chunks(text, 1)) == [text.chunks[0]]


def test_a_sample_of_uneven_chunks_exceeds_its_size_by_at_most_a_chunk() -> None:
    rng = random.Random(3)
    text = InMemoryText(*["x" * rng.randint(0, 500) for _ in range(400)])
    for size in (600, 5_000, 30_000):
        assert size - 500 <= sum(map(len, sample_chunks(text, size))) <= size + 500


def test_a_text_without_breaks_is_learned_in_reasonable_time(tmp_path: Path) -> None:
    """Check the limit on a pre-token, without which the library needs minutes."""
    rng = random.Random(4)
    text = "".join(rng.choices("ACGT", k=500_000))
    tokenizer = learn(InMemoryText(text, fingerprint="dna"), tmp_path, sample_bytes=10**7)
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("run", ["a" * 1_000_000, " " * 1_000_000, " " * 3_000_000 + "x", "q" + "\n " * 600_000 + "x"])
def test_long_runs_of_characters_are_encoded(tmp_path: Path, run: str) -> None:
    tokenizer = learn(learnable(), tmp_path)
    ids = tokenizer.encode_array(run)
    assert tokenizer.decode(ids.tolist()) == run
