"""Bytes as tokens."""

import pytest

from gptlab.tokenizer.bytes import ByteTokenizer


@pytest.mark.parametrize(("end_of_text", "vocab_size", "eot_id"), [(True, 257, 256), (False, 256, None)])
def test_ids_are_the_bytes(end_of_text: bool, vocab_size: int, eot_id: int | None) -> None:
    tokenizer = ByteTokenizer(end_of_text=end_of_text)
    assert (tokenizer.vocab_size, tokenizer.eot_id) == (vocab_size, eot_id)
    assert tokenizer.encode("é\n") == [0xC3, 0xA9, 0x0A]


def test_invalid_utf8_becomes_the_replacement_character() -> None:
    assert ByteTokenizer(end_of_text=True).decode([104, 0xC3, 105, 256]) == "h\ufffdi<|endoftext|>"
