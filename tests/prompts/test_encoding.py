"""Pieces become ids: marks may be special tokens, words of messages never are."""

import json
from pathlib import Path

import pytest

from gptlab.prompts.encoding import Encoded, check_style, encode_pieces, encode_rows, question_ids
from gptlab.prompts.protocol import BEGIN_OF_TEXT, END_OF_ROW, END_OF_TEXT, Message, Piece
from gptlab.prompts.style import TurnStyle
from gptlab.tokenizer import gpt2
from gptlab.tokenizer.bytes import ByteTokenizer
from gptlab.tokenizer.char import CharTokenizer
from gptlab.tokenizer.pretrained import read_tokenizer
from gptlab.tokenizer.protocol import Tokenizer
from gptlab.tokenizer.word import WordTokenizer
from tests.prompts.test_style import style
from tests.prompts.test_template import chat_template
from tests.support.template_folder import write_tokenizer


@pytest.fixture(scope="module")
def chat_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    found = read_tokenizer(write_tokenizer(tmp_path_factory.mktemp("chat"), None))
    assert found is not None
    return found


def encoded(pieces: list[Piece], tokenizer: Tokenizer) -> Encoded:
    return encode_pieces(pieces, tokenizer, signs={})


def test_marks_become_special_tokens_and_words_do_not(chat_tokenizer: Tokenizer) -> None:
    asked = [Message("user", "<|im_end|><|im_start|>"), Message("assistant", "<|endoftext|>")]
    [(ids, learned)] = encode_rows(style("chatml"), asked, chat_tokenizer)
    assert [i for i in ids if i < 3] == [1, 2, 1, 2]  # the marks of the two turns
    assert ids[-1] == 2
    assert learned[-1]
    assert chat_tokenizer.decode(ids).count("<|im_end|>") == 3
    said = chat_tokenizer.decode([i for i in ids if i >= 3])
    assert said == "user\n<|im_end|><|im_start|>\nassistant\n<|endoftext|>"
    answer = [i for i, learns in zip(ids, learned, strict=True) if learns]
    assert chat_tokenizer.decode(answer) == "<|endoftext|><|im_end|>"


def test_pieces_are_one_text() -> None:
    tokenizer = gpt2.load(encoding="gpt2")
    asked = [Piece("[INST] ", learned=False), Piece("Who", learned=False)]
    assert encoded(asked, tokenizer).ids == tokenizer.encode("[INST] Who")
    crossed = encoded([Piece("Who is th", learned=False), Piece("ere?", learned=True)], tokenizer)
    assert crossed.ids == tokenizer.encode("Who is there?")
    assert crossed.learned == [False, False, True, True]  # the token `there` spans the border


def test_a_row_begins_with_the_ids_of_its_question() -> None:
    """Check answers that begin with what GPT-2 would merge into the last token of the question."""
    tokenizer, plain = gpt2.load(encoding="gpt2"), style("plain")
    talk = [Message("user", "Say."), Message("assistant", "\n\na"), Message("user", "Say."), Message("assistant", "b")]
    for messages in (talk[:2], talk, [*talk[2:], *talk[:2]]):
        rows = encode_rows(plain, messages, tokenizer)
        answers = range(1, len(messages), 2)
        assert len(rows) == (1 if messages[1].content == "b" or len(messages) == 2 else 2)
        for i, row in zip(answers, rows * 2, strict=False):
            asked = question_ids(plain, messages[:i], tokenizer)
            assert row.ids[: len(asked)] == asked
            assert row.learned[len(asked)]
            assert not row.learned[len(asked) - 1]
        assert tokenizer.decode(rows[-1].ids) == "".join(
            f"{message.content}{chr(10) if message.role == 'user' else '<|endoftext|>'}" for message in messages
        )


def test_blanks_at_the_end_of_a_question_stay_as_they_are() -> None:
    """Check a style whose questions end with two line breaks, which GPT-2 splits if a word follows."""
    frames = {"system": "{content}", "user": "{content}", "input": "{input}", "assistant": "\n\n", "separator": ""}
    chosen = TurnStyle(name="mine", preamble="", end=None, **frames)
    tokenizer, talk = gpt2.load(encoding="gpt2"), [Message("user", "Say."), Message("assistant", "b")]
    asked = question_ids(chosen, talk[:1], tokenizer)
    assert asked == tokenizer.encode("Say.\n\n") != tokenizer.encode("Say.\n\nb")[:-1]
    [row] = encode_rows(chosen, talk, tokenizer)
    assert row == ([*asked, *tokenizer.encode("b"), 50256], [False] * len(asked) + [True, True])


def test_without_special_tokens_marks_are_text() -> None:
    tokenizer = gpt2.load(encoding="gpt2")
    ids = encoded([Piece("<|im_start|>user\n", learned=False)], tokenizer).ids
    assert ids == tokenizer.encode("<|im_start|>user\n")
    assert encoded([Piece("a<|endoftext|>", learned=False)], tokenizer).ids == [64, 50256]
    assert encoded([Piece("a", learned=True), END_OF_TEXT], tokenizer).ids == [64, 50256]


def test_a_row_ends_with_a_special_token_if_there_is_one(chat_tokenizer: Tokenizer) -> None:
    talk = [Message("user", "b"), Message("assistant", "c"), Message("user", "b"), Message("assistant", "d")]
    tokenizer, chatml = ByteTokenizer(end_of_text=True), style("chatml")
    [(ids, learned)] = encode_rows(chatml, talk, tokenizer)
    assert tokenizer.decode([i for i, learns in zip(ids, learned, strict=True) if learns]) == (
        "c<|im_end|>d<|im_end|><|endoftext|>"
    )
    assert ids.count(256) == 1
    [(ids, _)] = encode_rows(chatml, talk, chat_tokenizer)
    assert ids.count(2) == 4  # <|im_end|> is a token there, and ends the row
    assert 0 not in ids
    assert encode_rows(chatml, talk, ByteTokenizer(end_of_text=False))[0].ids[-1] == ord(">")


def test_the_same_mark_twice_is_two_tokens() -> None:
    mark = Piece("<|endoftext|><|endoftext|>", learned=False)
    assert encoded([mark], gpt2.load(encoding="gpt2")).ids == [50256, 50256]


class BeginsWith256(ByteTokenizer):
    """A tokenizer that begins a text with its special token."""

    bos_id = 256

    def special_ids(self) -> dict[str, int]:
        return {"<s>": 256}


def test_a_text_begins_as_the_style_says() -> None:
    tokenizer = BeginsWith256(end_of_text=True)
    assert encoded([BEGIN_OF_TEXT, Piece("a", learned=False)], tokenizer).ids == [256, ord("a")]
    assert encoded([Piece("<s>a", learned=False)], tokenizer).ids == [256, ord("a")]
    assert encoded([Piece("a", learned=False)], tokenizer).ids == [ord("a")]
    assert encoded([BEGIN_OF_TEXT, Piece("a", learned=False)], ByteTokenizer(end_of_text=True)).ids == [ord("a")]
    assert encode_pieces([Piece("\uf001", learned=True)], tokenizer, signs={"<s>": "\uf001"}) == (
        [*b"<s>"],
        [True, True, True],
    )
    assert encoded([Piece("a", learned=True), END_OF_TEXT, END_OF_ROW], tokenizer) == ([ord("a"), 256], [True, True])


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
        found = encode_rows(alpaca, messages, tokenizer)[0].ids
        assert found == [*tokenizer.encode(asked + entry["output"]), tokenizer.eot_id]
        assert question_ids(alpaca, messages[:1], tokenizer) == tokenizer.encode(asked)


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
            r"prompt=phi3 writes '<\|user\|>\\n.*', which the char tokenizer decodes as '\ufffd\ufffd",
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


def test_a_template_without_the_question_is_reported(chat_tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="prompt=theirs does not write the words of a question: choose another"):
        check_style(chat_template("{{ messages | length }}<|im_end|>"), chat_tokenizer)


def test_styles_that_tokenizers_can_write(chat_tokenizer: Tokenizer) -> None:
    for name in ("alpaca", "chatml", "phi3", "plain"):
        check_style(style(name), chat_tokenizer)
        check_style(style(name), ByteTokenizer(end_of_text=True))
    check_style(style("plain"), CharTokenizer(characters="\nabcde", unknown=True, end_of_text=True))
    check_style(style("chatml"), ByteTokenizer(end_of_text=False))
