"""The promises of the protocol, for every tokenizer."""

import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from gptlab.tokenizer import bpe, char, word
from gptlab.tokenizer.protocol import Tokenizer
from gptlab.tokenizer.state import from_state
from tests.support.tokenizers import LOSSLESS, LOSSY, TEXTS, InMemoryText


@pytest.fixture(params=[*LOSSLESS, *LOSSY])
def tokenizer(request: pytest.FixtureRequest, tokenizers: dict[str, Tokenizer]) -> Tokenizer:
    return tokenizers[request.param]


@pytest.mark.parametrize("name", LOSSLESS)
def test_no_text_is_lost_and_every_byte_is_counted_once(name: str, tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers[name]
    sizes = tokenizer.token_bytes()
    assert sizes is not None
    assert sizes.shape == (tokenizer.vocab_size,)
    assert sizes.dtype == np.int64
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert sizes[ids].sum() == len(text.encode())


@pytest.mark.parametrize("name", LOSSY)
def test_a_tokenizer_that_can_lose_text_counts_no_bytes(name: str, tokenizers: dict[str, Tokenizer]) -> None:
    assert tokenizers[name].token_bytes() is None


def test_the_array_holds_the_same_ids_and_can_be_written_to(tokenizer: Tokenizer) -> None:
    for text in TEXTS:
        ids = tokenizer.encode_array(text)
        assert ids.dtype == np.uint32
        assert ids.tolist() == tokenizer.encode(text)
        assert ids.flags.writeable
        assert (ids < tokenizer.vocab_size).all()


def test_text_never_becomes_the_special_token(tokenizer: Tokenizer) -> None:
    assert all(tokenizer.eot_id not in tokenizer.encode(text) for text in TEXTS)
    if tokenizer.eot_id is not None:
        assert tokenizer.decode([tokenizer.eot_id]) == "<|endoftext|>"
        sizes = tokenizer.token_bytes()
        assert sizes is None or sizes[tokenizer.eot_id] == 0


def test_special_tokens_have_names_that_stay_text(tokenizer: Tokenizer) -> None:
    special = tokenizer.special_ids()
    assert tokenizer.eot_id is None or special["<|endoftext|>"] == tokenizer.eot_id
    assert all(tokenizer.decode([i]) == name for name, i in special.items())


def test_the_end_of_text_is_the_first_end(tokenizer: Tokenizer) -> None:
    assert tokenizer.end_ids[:1] == (() if tokenizer.eot_id is None else (tokenizer.eot_id,))
    assert tokenizer.unused_ids == ()


def test_every_id_decodes(tokenizer: Tokenizer) -> None:
    assert all(tokenizer.decode([i]) for i in range(tokenizer.vocab_size))
    assert tokenizer.decode([]) == ""


def test_half_of_a_surrogate_pair_is_reported_with_its_place(tokenizer: Tokenizer) -> None:
    for encode in (tokenizer.encode, tokenizer.encode_array, lambda text: tokenizer.encode_parts([text])):
        with pytest.raises(ValueError, match=r"'\\ud83d' at position 2, half of a surrogate pair"):
            encode("ab\ud83d\ude00")


def test_the_state_restores_an_equal_tokenizer(tokenizer: Tokenizer) -> None:
    file = io.BytesIO()
    torch.save(tokenizer.state(), file)
    file.seek(0)
    for state in (torch.load(file, weights_only=True), json.loads(json.dumps(tokenizer.state()))):
        copy = from_state(state)
        assert copy.state() == tokenizer.state()
        assert (copy.vocab_size, copy.eot_id, copy.bos_id) == (tokenizer.vocab_size, tokenizer.eot_id, tokenizer.bos_id)
        assert np.array_equal(copy.token_bytes(), tokenizer.token_bytes())
        for text in TEXTS:
            ids = tokenizer.encode(text)
            assert copy.encode(text) == ids
            assert copy.decode(ids) == tokenizer.decode(ids)


def test_several_threads_may_encode_at_once(tokenizer: Tokenizer) -> None:
    long = [" ".join(TEXTS[n:]) for n in range(8)]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(tokenizer.encode_array, long))
    assert all(np.array_equal(ids, tokenizer.encode(text)) for ids, text in zip(together, long, strict=True))


def test_a_state_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="saved as 'morse', wanted absent, bpe, bytes, char, pretrained"):
        from_state({"kind": "morse", "end_of_text": True})


@pytest.mark.parametrize("module", [char, word])
def test_learning_refuses_half_of_a_surrogate_pair(module: object) -> None:
    with pytest.raises(ValueError, match="half of a surrogate pair"):
        module.train(InMemoryText("fine", "a\ud800"), unknown=True, end_of_text=True)  # type: ignore[attr-defined]


def test_learning_merges_refuses_half_of_a_surrogate_pair(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="half of a surrogate pair"):
        bpe.train(InMemoryText("a\ud800"), vocab_size=300, sample_bytes=10**6, cache_dir=str(tmp_path))
