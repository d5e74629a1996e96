"""Words as tokens: the numbers and examples of the book's chapter 2."""

from pathlib import Path

import pytest

from gptlab.tokenizer import word
from gptlab.tokenizer.word import WordTokenizer
from tests.support.tokenizers import InMemoryText


@pytest.fixture
def verdict(shared_data: Path) -> str:
    return (shared_data / "the-verdict.txt").read_text(encoding="utf-8")


@pytest.fixture
def tokenizer(verdict: str) -> WordTokenizer:
    return word.train(InMemoryText(verdict), unknown=True, end_of_text=True)


def test_the_verdict_has_the_books_words(verdict: str, tokenizer: WordTokenizer) -> None:
    assert len(tokenizer.encode(verdict)) == 4690
    assert tokenizer.vocab_size == 1130 + 2
    assert tokenizer.eot_id == 1130


def test_the_books_first_example(tokenizer: WordTokenizer) -> None:
    text = """"It's the last he painted, you know,"\n           Mrs. Gisburn said with pardonable pride."""
    ids = [1, 56, 2, 850, 988, 602, 533, 746, 5, 1126, 596, 5, 1, 67, 7, 38, 851, 1108, 754, 793, 7]
    assert tokenizer.encode(text) == ids
    assert (
        tokenizer.decode(ids)
        == """\" It\' s the last he painted, you know," Mrs. Gisburn said with pardonable pride."""
    )


def test_unseen_words_become_unk_and_so_does_the_name_of_a_special_token(tokenizer: WordTokenizer) -> None:
    ids = tokenizer.encode("Hello, do you like tea? <|endoftext|>")
    assert ids == [1131, 5, 355, 1126, 628, 975, 10, 1131]
    assert tokenizer.decode(ids) == "<|unk|>, do you like tea? <|unk|>"


def test_the_name_of_a_special_token_can_be_a_word_that_was_learned() -> None:
    tokenizer = word.train(InMemoryText("one <|endoftext|> two"), unknown=False, end_of_text=True)
    assert tokenizer.encode("<|endoftext|> two one") == [0, 2, 1]
    assert tokenizer.eot_id == 3


def test_an_unseen_word_is_reported_with_its_place() -> None:
    tokenizer = word.train(InMemoryText("one two"), unknown=False, end_of_text=False)
    with pytest.raises(ValueError, match=r"'three', word 3 of the text, is not among the 2 .* tokenizer.unknown=true"):
        tokenizer.encode("one two three")
