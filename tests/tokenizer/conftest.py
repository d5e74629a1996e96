"""Fixtures of the tokenizer tests."""

import pytest

from gptlab.tokenizer import bpe, char, gpt2, word
from gptlab.tokenizer.bytes import ByteTokenizer
from gptlab.tokenizer.huggingface import write_tokenizer
from gptlab.tokenizer.pretrained import read_tokenizer
from gptlab.tokenizer.protocol import Tokenizer
from tests.support.tokenizers import TEXTS, InMemoryText, learnable


@pytest.fixture(scope="session")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    """Return one tokenizer of every kind, by the names in `tests/support/tokenizers.py`."""
    folder = tmp_path_factory.mktemp("tokenizers")
    learned = bpe.train(learnable(), vocab_size=600, sample_bytes=10**6, cache_dir=str(folder))
    write_tokenizer(learned, folder, context_length=64)
    pretrained = read_tokenizer(folder)
    assert pretrained is not None
    return {
        "bpe": learned,
        "gpt2": gpt2.load(encoding="gpt2"),
        "bytes": ByteTokenizer(end_of_text=True),
        "bytes without eot": ByteTokenizer(end_of_text=False),
        "char": char.train(InMemoryText(*TEXTS), unknown=False, end_of_text=True),
        "pretrained": pretrained,
        "char with unk": char.train(learnable(), unknown=True, end_of_text=True),
        "word": word.train(InMemoryText(*TEXTS), unknown=False, end_of_text=False),
        "word with unk": word.train(learnable(), unknown=True, end_of_text=True),
    }
