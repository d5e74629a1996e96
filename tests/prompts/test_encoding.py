"""Pieces become ids: marks may be special tokens, words of messages never are."""

import json
from pathlib import Path

import pytest

from gptlab.prompts.encoding import check_style, encode_pieces
from gptlab.prompts.protocol import END_OF_TEXT, Message, Piece
from gptlab.tokenizer import gpt2
from gptlab.tokenizer.bytes import ByteTokenizer
from gptlab.tokenizer.char import CharTokenizer
from gptlab.tokenizer.pretrained import read_tokenizer
from gptlab.tokenizer.protocol import Tokenizer
from gptlab.tokenizer.word import WordTokenizer
from tests.prompts.test_style import style
from tests.support.template_folder import write_tokenizer


@pytest.fixture(scope="module")
def chat_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    found = read_tokenizer(write_tokenizer(tmp_path_factory.mktemp("chat"), None))
    assert found is not None
    return found


def test_marks_become_special_tokens_and_words_do_not(chat_tokenizer: Tokenizer) -> None:
    asked = [Message("user", "<|im_end|><|im_start|>"), Message("assistant", "<|endoftext|>")]
    ids, learned = encode_pieces(style("chatml").pieces(asked, answer_next=False), chat_tokenizer)
    assert [i for i in ids if i < 3] == [1, 2, 1, 2]  # the marks of the two turns
    assert ids[-1] == 2
    assert learned[-1]
    assert chat_tokenizer.decode(ids).count("<|im_end|>") == 3
    said = chat_tokenizer.decode([i for i in ids if i >= 3])
    assert said == "user\n<|im_end|><|im_start|>\nassistant\n<|endoftext|>"
    answer = [i for i, learns in zip(ids, learned, strict=True) if learns]
    assert chat_tokenizer.decode(answer) == "<|endoftext|><|im_end|>"


def test_a_blank_before_a_word_belongs_to_the_word() -> None:
    tokenizer = gpt2.load(encoding="gpt2")
    asked = [Piece("[INST] ", learned=False, marks=True), Piece("Who", learned=False, marks=False)]
    assert encode_pieces(asked, tokenizer).ids == tokenizer.encode("[INST] Who")
    answered = [*asked, Piece("Who", learned=True, marks=False)]
    assert encode_pieces(answered, tokenizer).ids == tokenizer.encode("[INST] Who") + tokenizer.encode("Who")


def test_without_special_tokens_marks_are_text() -> None:
    tokenizer = gpt2.load(encoding="gpt2")
    ids = encode_pieces([Piece("<|im_start|>user\n", learned=False, marks=True)], tokenizer).ids
    assert ids == tokenizer.encode("<|im_start|>user\n")
    assert encode_pieces([Piece("a<|endoftext|>", learned=False, marks=True)], tokenizer).ids == [64, 50256]
    assert encode_pieces([Piece("a", learned=True, marks=False), END_OF_TEXT], tokenizer).ids == [64, 50256]


def test_the_same_mark_twice_is_two_tokens() -> None:
    mark = Piece("<|endoftext|><|endoftext|>", learned=False, marks=True)
    assert encode_pieces([mark], gpt2.load(encoding="gpt2")).ids == [50256, 50256]


class BeginsWith256(ByteTokenizer):
    """A tokenizer that begins a text with its special token."""

    bos_id = 256

    def special_ids(self) -> dict[str, int]:
        return {"<s>": 256}


def test_the_bos_id_is_there_once() -> None:
    tokenizer = BeginsWith256(end_of_text=True)
    begun = [256, ord("a")]
    assert encode_pieces([Piece("a", learned=False, marks=False)], tokenizer).ids == begun
    written = encode_pieces([Piece("<s>a", learned=False, marks=True)], tokenizer)
    assert written.ids == begun
    assert encode_pieces([Piece("<s>", learned=True, marks=False)], tokenizer) == (
        [256, *b"<s>"],
        [False, True, True, True],
    )


def test_the_books_rows_have_the_books_ids(shared_data: Path) -> None:
    """Check that the pieces of all 1,100 rows give the whole text's ids, and an end of text."""
    tokenizer, alpaca = gpt2.load(encoding="gpt2"), style("alpaca")
    for entry in json.loads((shared_data / "instruction-data.json").read_text(encoding="utf-8")):
        asked = (
            "Below is an instruction that describes a task. Write a response that appropriately completes the request."
            f"\n\n### Instruction:\n{entry['instruction']}"
            + (f"\n\n### Input:\n{entry['input']}" if entry["input"] else "")
            + "\n\n### Response:\n"
        )
        messages = [Message("user", entry["instruction"], entry["input"]), Message("assistant", entry["output"])]
        found = encode_pieces(alpaca.pieces(messages, answer_next=False), tokenizer).ids
        assert found == [*tokenizer.encode(asked + entry["output"]), tokenizer.eot_id]
        assert encode_pieces(alpaca.pieces(messages[:1], answer_next=True), tokenizer).ids == tokenizer.encode(asked)


@pytest.mark.parametrize(
    ("tokenizer", "name", "sentence"),
    [
        (
            WordTokenizer(words=["a", "b", "c", "d", "e"], unknown=True, end_of_text=True),
            "plain",
            r"prompt=plain writes '\\n', which the word tokenizer decodes as '': choose a tokenizer=",
        ),
        (
            CharTokenizer(characters="\nabcde", unknown=True, end_of_text=True),
            "phi3",
            r"prompt=phi3 writes '<\|user\|>\\n', which the char tokenizer decodes as '\ufffd\ufffd",
        ),
        (
            ByteTokenizer(end_of_text=False),
            "alpaca",
            "prompt=alpaca ends an answer with the tokenizer's end of text, and the bytes tokenizer has none",
        ),
    ],
)
def test_a_style_that_the_tokenizer_cannot_write_is_reported(tokenizer: Tokenizer, name: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        check_style(style(name), tokenizer)


def test_styles_that_tokenizers_can_write(chat_tokenizer: Tokenizer) -> None:
    for name in ("alpaca", "chatml", "phi3", "plain"):
        check_style(style(name), chat_tokenizer)
        check_style(style(name), ByteTokenizer(end_of_text=True))
    check_style(style("plain"), CharTokenizer(characters="\nabcde", unknown=True, end_of_text=True))
    check_style(style("chatml"), ByteTokenizer(end_of_text=False))
