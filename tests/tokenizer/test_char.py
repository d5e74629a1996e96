"""Characters as tokens: nanoGPT's vocabulary, and unknown characters."""

from pathlib import Path

import pytest

from gptlab.tokenizer import char
from tests.support.tokenizers import InMemoryText


def test_tiny_shakespeare_has_nanogpts_ids(shared_data: Path) -> None:
    text = (shared_data / "tiny-shakespeare.txt").read_text(encoding="utf-8")
    tokenizer = char.train(InMemoryText(text[:600_000], text[600_000:]), unknown=False, end_of_text=False)
    assert (tokenizer.vocab_size, tokenizer.eot_id) == (65, None)
    assert tokenizer.encode("hii there") == [46, 47, 47, 1, 58, 46, 43, 56, 43]
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(
    ("unknown", "end_of_text", "vocab_size", "eot_id"),
    [(False, False, 3, None), (False, True, 4, 3), (True, False, 4, None), (True, True, 5, 3)],
)
def test_special_ids_come_after_the_characters(
    unknown: bool, end_of_text: bool, vocab_size: int, eot_id: int | None
) -> None:
    tokenizer = char.train(InMemoryText("cab", "bac"), unknown=unknown, end_of_text=end_of_text)
    assert (tokenizer.vocab_size, tokenizer.eot_id) == (vocab_size, eot_id)
    assert tokenizer.encode("abc") == [0, 1, 2]


def test_an_unseen_character_becomes_the_replacement_character() -> None:
    tokenizer = char.train(InMemoryText("abc"), unknown=True, end_of_text=True)
    assert tokenizer.encode("a🙂c") == [0, 4, 2]
    assert tokenizer.decode([0, 4, 2]) == "a\ufffdc"


def test_an_unseen_character_is_reported_with_its_place() -> None:
    tokenizer = char.train(InMemoryText("abc"), unknown=False, end_of_text=True)
    with pytest.raises(ValueError, match=r"'é' \(U\+00E9\) at position 2 is not among the 3 .* tokenizer.unknown=true"):
        tokenizer.encode("aaéb")
