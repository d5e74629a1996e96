"""A tokenizer matches itself in any form, and no other tokenizer."""

import json
from pathlib import Path
from types import ModuleType

import pytest

from gptlab.tokenizer import char, word
from gptlab.tokenizer.bpe import BytePairTokenizer
from gptlab.tokenizer.bytes import ByteTokenizer
from gptlab.tokenizer.huggingface import write_tokenizer
from gptlab.tokenizer.pretrained import read_tokenizer
from gptlab.tokenizer.protocol import Tokenizer
from gptlab.tokenizer.text import END_OF_TEXT
from gptlab.weights.tokenizer_match import check_same_tokenizer
from tests.support.tokenizers import PROSE

WHERE = Path("run")
UNKNOWN = {"unknown": True, "end_of_text": True}


def byte_pairs(pattern: str) -> BytePairTokenizer:
    """Return a tokenizer of the bytes and one pair of them."""
    ranks = {chr(byte): byte for byte in range(256)} | {"th": 256}
    return BytePairTokenizer(ranks=ranks, pattern=pattern, special={END_OF_TEXT: 257})


OURS: dict[str, Tokenizer] = {
    "bpe": byte_pairs(r"\s|\S+"),
    "bytes": ByteTokenizer(end_of_text=True),
    "char": char.train([PROSE], unknown=False, end_of_text=True),
    "word": word.train([PROSE], **UNKNOWN),
}


def exported(tokenizer: Tokenizer, folder: Path) -> Tokenizer:
    write_tokenizer(tokenizer, folder, context_length=64)
    again = read_tokenizer(folder)
    assert again is not None
    return again


@pytest.mark.parametrize("name", OURS)
def test_a_tokenizer_and_its_export_agree(name: str, tmp_path: Path) -> None:
    ours, theirs = OURS[name], exported(OURS[name], tmp_path)
    check_same_tokenizer(ours, theirs, where=WHERE)
    check_same_tokenizer(theirs, ours, where=WHERE)
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text())))  # in another layout
    again = read_tokenizer(tmp_path)
    assert again is not None
    assert again.state() != theirs.state()
    check_same_tokenizer(again, theirs, where=WHERE)


@pytest.mark.parametrize("kind", [char, word])
@pytest.mark.parametrize("comes_from_a_folder", [False, True])
def test_as_many_other_tokens(kind: ModuleType, comes_from_a_folder: bool, tmp_path: Path) -> None:
    ours, theirs = kind.train(["a b c"], **UNKNOWN), kind.train(["a b d"], **UNKNOWN)
    if comes_from_a_folder:
        theirs = exported(theirs, tmp_path)
    with pytest.raises(ValueError, match=r"the tokenizer has as many ids as the weights in run, .* but not the same"):
        check_same_tokenizer(ours, theirs, where=WHERE)


def test_the_same_tokens_split_differently() -> None:
    with pytest.raises(ValueError, match="but not the same"):
        check_same_tokenizer(byte_pairs(r"\s|\S+"), byte_pairs(r"[\s\S]"), where=WHERE)


def test_another_number_of_ids() -> None:
    with pytest.raises(ValueError, match=r"has 257 ids, but the weights in run have 256: choose tokenizer=pretrained"):
        check_same_tokenizer(ByteTokenizer(end_of_text=True), ByteTokenizer(end_of_text=False), where=WHERE)
