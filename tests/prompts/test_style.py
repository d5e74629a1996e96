"""Each prompt style's text, and the spans that are learned."""

import pytest
from omegaconf import OmegaConf

from gptlab.config.build import build
from gptlab.config.plain import resolved
from gptlab.prompts.protocol import BEGIN_OF_TEXT, END_OF_ROW, Message, Piece, PromptStyle
from gptlab.prompts.style import TurnStyle
from tests.conftest import ROOT

STYLES = ["alpaca", "chatml", "phi3", "plain"]
ASKED = Message("user", "Add them.", "1 and 2")
ANSWERED = Message("assistant", "3")
AGAIN = Message("user", "And 4?")
LAST = Message("assistant", "7")
SYSTEM = Message("system", "Be brief.")


def style(name: str) -> PromptStyle:
    return build(resolved(OmegaConf.load(ROOT / "conf" / "prompt" / f"{name}.yaml")), "prompt")  # type: ignore[arg-type]


def text(pieces: list[Piece]) -> str:
    """Return the text of pieces; the end of text, which a style without an end mark writes, is [eot]."""
    return "".join({None: piece.text, "end": "[eot]"}.get(piece.token, "") for piece in pieces)


def row(chosen: PromptStyle, messages: list[Message]) -> list[Piece]:
    [pieces] = chosen.rows(messages)
    return pieces


def learned(pieces: list[Piece]) -> str:
    return text([piece for piece in pieces if piece.learned])


def test_alpaca_matches_the_book() -> None:
    begin = (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request."
        "\n\n### Instruction:\nAdd them."
    )
    written = text(row(style("alpaca"), [ASKED, ANSWERED]))
    assert written == begin + "\n\n### Input:\n1 and 2\n\n### Response:\n3[eot]"
    without = [Message("user", "Add them."), ANSWERED]
    assert text(row(style("alpaca"), without)) == begin + "\n\n### Response:\n3[eot]"


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        (
            "alpaca",
            "Be brief.\n\n### Instruction:\nAdd them.\n\n### Input:\n1 and 2\n\n### Response:\n3[eot]"
            "\n\n### Instruction:\nAnd 4?\n\n### Response:\n7[eot]",
        ),
        (
            "phi3",
            "<|system|>\nBe brief.<|end|>\n<|user|>\nAdd them.\n1 and 2<|end|>\n<|assistant|>\n3<|end|>\n"
            "<|user|>\nAnd 4?<|end|>\n<|assistant|>\n7<|end|>",
        ),
        (
            "chatml",
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nAdd them.\n1 and 2<|im_end|>\n"
            "<|im_start|>assistant\n3<|im_end|>\n"
            "<|im_start|>user\nAnd 4?<|im_end|>\n<|im_start|>assistant\n7<|im_end|>",
        ),
        ("plain", "Be brief.\nAdd them.\n1 and 2\n3[eot]And 4?\n7[eot]"),
    ],
)
def test_a_conversation_of_several_turns(name: str, wanted: str) -> None:
    assert text(row(style(name), [SYSTEM, ASKED, ANSWERED, AGAIN, LAST])) == wanted


@pytest.mark.parametrize("name", STYLES)
def test_answers_and_their_ends_are_learned(name: str) -> None:
    chosen = style(name)
    end = "".join(chosen.stop) or "[eot]"
    pieces = row(chosen, [ASKED, ANSWERED, AGAIN, LAST])
    assert learned(pieces) == f"3{end}7{end}"
    assert pieces[0] == BEGIN_OF_TEXT
    assert pieces[-1] == END_OF_ROW


@pytest.mark.parametrize("name", STYLES)
def test_a_row_begins_with_each_of_its_questions(name: str) -> None:
    whole = row(style(name), [ASKED, ANSWERED, AGAIN, LAST])
    for turns in ([ASKED], [ASKED, ANSWERED, AGAIN]):
        asked = style(name).question(turns)
        assert whole[: len(asked)] == asked
        assert whole[len(asked)].learned


def test_messages_may_be_dicts_of_words() -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "And 4?"}]
    tools = [{"type": "function", "function": {"name": "add"}}]  # ignored, as by the exported template
    assert style("chatml").question(turns, tools=tools) == style("chatml").question([SYSTEM, AGAIN])
    with pytest.raises(ValueError, match="the content of message 1 is None, wanted a text, or prompt=pretrained"):
        style("chatml").question([{"role": "user", "content": None}])
    with pytest.raises(ValueError, match="message 1 is the tool's, wanted the user's"):
        style("chatml").question([{"role": "tool", "content": "3"}])


@pytest.mark.parametrize(
    ("messages", "answer_next", "sentence"),
    [
        ([ANSWERED], False, "message 1 is the assistant's, wanted the user's"),
        ([ASKED, AGAIN, LAST], False, "message 2 is the user's, wanted the assistant's"),
        ([ASKED, SYSTEM, LAST], False, "message 2 is the system's, wanted the assistant's"),
        ([ASKED], False, "the last message is the user's, wanted an answer at the end"),
        ([ASKED, ANSWERED], True, "the last message is the assistant's, wanted a question at the end"),
        ([SYSTEM], True, "the last message is the system's, wanted a question"),
        ([], False, "there is no message, wanted an answer at the end"),
    ],
)
def test_an_impossible_order_is_reported(messages: list[Message], answer_next: bool, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        style("plain").question(messages) if answer_next else style("plain").rows(messages)


def test_a_frame_without_placeholder_is_reported() -> None:
    frames = {"preamble": "", "system": "{content}", "input": "{input}", "assistant": "", "end": None, "separator": ""}
    with pytest.raises(ValueError, match=r"prompt\.user is 'Q: ', wanted exactly one \{content\} in it"):
        TurnStyle(name="mine", user="Q: ", **frames)
