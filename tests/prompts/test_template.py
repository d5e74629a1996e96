"""Chat templates of pretrained models: text as in the transformers library, and its learned spans."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from gptlab.prompts.encoding import encode_rows, question_ids
from gptlab.prompts.protocol import END_OF_ROW, Message
from gptlab.prompts.template import ChatTemplate
from gptlab.tokenizer.bytes import ByteTokenizer
from gptlab.weights.chat_template import read_chat_template
from tests.prompts.test_style import AGAIN, ANSWERED, LAST, STYLES, SYSTEM, learned, style, text
from tests.support.chat_templates import BARE, DATED, FORGETFUL, MERGED
from tests.support.template_folder import CHATML

USER = Message("user", "Add 1 and 2.")


def chat_template(template: str, *, date: str | None = None, **variables: Any) -> ChatTemplate:
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    return ChatTemplate(name="theirs", template=template, special_tokens=tokens, date=date, variables=variables)


def test_marks_say_what_is_learned() -> None:
    style = chat_template(CHATML)
    [pieces] = style.rows([USER, ANSWERED, AGAIN, LAST])
    assert learned(pieces) == "3<|im_end|>7<|im_end|>"
    assert text(pieces).endswith("<|im_start|>assistant\n7<|im_end|>\n")
    assert style.stop == ("<|im_end|>",)
    assert END_OF_ROW not in pieces


def test_without_marks_answers_with_their_ends_are_learned() -> None:
    plain = CHATML.replace("{% generation %}", "").replace("{% endgeneration %}\n", "")
    [pieces] = chat_template(plain).rows([USER, ANSWERED, AGAIN, LAST])
    assert learned(pieces) == "3<|im_end|>7<|im_end|>"
    assert text(pieces).endswith("<|im_start|>assistant\n7<|im_end|>")
    assert pieces[-1] == END_OF_ROW


def test_marks_within_marks_and_in_macros_do_no_harm() -> None:
    """Check marks that overlap, that lie beyond the text, that are empty, and that a loop writes."""
    nested = "{% generation %}a{% generation %}b{% endgeneration %}{% endgeneration %}c"
    assert learned(chat_template(nested).rows([USER, ANSWERED])[0]) == "ab"
    kept = "{% set x %}{% generation %}abc{% endgeneration %}{% endset %}{{ x[:1] }}"
    assert learned(chat_template(kept).rows([USER, ANSWERED])[0]) == "a"
    empty = "{% generation %}{% endgeneration %}{% for m in messages %}{{ m.content }};{% endfor %}"
    assert learned(chat_template(empty).rows([USER, ANSWERED])[0]) == "3;"
    looped = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %};{% endfor %}"
    assert learned(chat_template(looped).rows([USER, ANSWERED])[0]) == "Add 1 and 2.3"


def test_a_question_is_written_the_same_without_its_answer() -> None:
    style = chat_template(MERGED)
    [whole] = style.rows([SYSTEM, USER, ANSWERED, AGAIN, LAST])
    asked = style.question([SYSTEM, USER, ANSWERED, AGAIN])
    assert text(whole).startswith(text(asked))
    assert learned(whole) == " 3 </s> 7 </s>"
    assert text(asked).startswith("<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nAdd 1 and 2. [/INST] 3 </s><s>[INST] And")
    assert style.stop == ("</s>",)


def test_a_history_that_is_rewritten_gives_a_row_per_answer() -> None:
    thought = Message("assistant", "<think>\nHm.\n</think>\n\n3")
    first, second = chat_template(FORGETFUL).rows([USER, thought, AGAIN, LAST])
    assert learned(first) == "<think>\nHm.\n</think>\n\n3</s>"
    assert learned(second) == "<think>\n\n</think>\n\n7</s>"
    assert "Hm" not in text(second)
    assert text(second).startswith(text(chat_template(FORGETFUL).question([USER, thought, AGAIN])))


def test_without_a_mark_only_the_last_answer_ends_with_the_end_of_text() -> None:
    style = chat_template(BARE)
    [pieces] = style.rows([USER, ANSWERED, AGAIN, LAST])
    assert text(pieces) == "Add 1 and 2.\n3And 4?\n7"
    assert (learned(pieces), pieces[-1]) == ("37", END_OF_ROW)
    assert style.stop == ()
    blank = chat_template("{% for m in messages %}{{ m.content }}\n\n{% endfor %}")
    assert (learned(blank.rows([USER, ANSWERED])[0]), blank.stop) == ("3", ())


def test_an_end_of_several_lines_stops_at_the_first() -> None:
    style = chat_template(
        "{% for m in messages %}{{ m.role }}:{{ m.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% else %}{{ eos_token }}{% endif %}"
    )
    first, second = style.rows([USER, ANSWERED, AGAIN, LAST])
    assert (learned(first), learned(second)) == ("3<|end|>\n</s>", "7<|end|>\n</s>")
    assert style.stop == ("<|end|>",)


def test_an_input_follows_its_instruction() -> None:
    pieces = chat_template(CHATML).question([Message("user", "Add.", "1 and 2")])
    assert "user\nAdd.\n1 and 2<|im_end|>" in text(pieces)


def test_the_date_of_rows_is_kept_and_that_of_questions_is_todays() -> None:
    style = chat_template(DATED, date="2001-02-03")
    assert text(style.rows([USER, ANSWERED])[0]).startswith("2001-02-03 user: Add")
    assert text(style.question([USER])).startswith(f"{datetime.now():%Y-%m}")
    assert text(chat_template(DATED).rows([USER, ANSWERED])[0]).startswith(f"{datetime.now():%Y-%m}")
    with pytest.raises(ValueError, match=r"prompt\.date is '3 May', wanted a day as in 2026-11-30, or null for today"):
        chat_template(DATED, date="3 May")


def test_variables_reach_the_template() -> None:
    asks = "{{ messages[0].content }}{{ enable_thinking }}{{ depth.most }}"
    assert text(chat_template(asks, enable_thinking=False, depth={"most": 3}).question([USER])) == "Add 1 and 2.False3"
    with pytest.raises(ValueError, match=r"prompt\.variables holds more than plain values"):
        chat_template(asks, depth=object())
    with pytest.raises(ValueError, match=r"prompt\.special_tokens\.bos_token is of type int, wanted a text"):
        ChatTemplate(name="x", template=asks, special_tokens={"bos_token": 3}, date=None, variables={})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("{{ raise_exception('no system, please') }}", "the chat template refuses the conversation: no system, please"),
        ("{{ messages[9]['content'].x.y }}", "the chat template refuses the conversation: "),
        ("{{ messages.append(1) }}", "the chat template refuses the conversation: .*unsafe"),
        ("{{ ''.__class__.__mro__ }}", "the chat template refuses the conversation: .*unsafe"),
        ("{{ messages[0]['content'] }}", "does not write the assistant's answers: choose another prompt="),
        ("{% for m in messages %}{{ m['content'] | length }}{% endfor %}", "does not write the assistant's answers"),
    ],
)
def test_an_unsuitable_template_is_reported(template: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        chat_template(template).rows([USER, ANSWERED])


def test_words_that_a_template_changes_are_taught_as_it_writes_them() -> None:
    shouted = "{% for m in messages %}{{ m['content'] | upper }}{% endfor %}"
    [pieces] = chat_template(shouted).rows([USER, Message("assistant", "three")])
    assert (text(pieces), learned(pieces)) == ("ADD 1 AND 2.THREE", "THREE")
    counted = "{{ messages | length }}{% for m in messages %}{{ m['content'] }};{% endfor %}"
    [pieces] = chat_template(counted).rows([USER, ANSWERED])
    assert (text(pieces), learned(pieces)) == ("1Add 1 and 2.;2Add 1 and 2.;3;", "2Add 1 and 2.;3;")


def test_a_missing_or_invalid_template_is_reported() -> None:
    with pytest.raises(ValueError, match=r"prompt\.template is not Jinja: line 2: "):
        chat_template("a\n{% for %}")
    with pytest.raises(ValueError, match=r"prompt\.template is null: use pretrained weights"):
        ChatTemplate(name="pretrained", template=None, special_tokens={}, date=None, variables={})


def test_functions_that_templates_may_call() -> None:
    style = chat_template(
        "{{ {'a': 'é'} | tojson }}{% if strftime_now('%Y') | int > 2000 %}!{% endif %}"
        "{% for m in messages %}{% if loop.index > 9 %}{% break %}{% endif %}{{ m['content'] }}.{% endfor %}"
    )
    assert text(style.question([USER])) == '{"a": "é"}!Add 1 and 2..'


def test_templates_are_found_in_a_folder(tmp_path: Path) -> None:
    assert read_chat_template(tmp_path) is None
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "in json"}), encoding="utf-8")
    assert read_chat_template(tmp_path) == {"template": "in json", "special_tokens": {}}
    several = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "in a list"}]
    config = {"chat_template": several, "bos_token": {"content": "<s>"}, "eos_token": None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"eos_token": "</s>"}), encoding="utf-8")
    assert read_chat_template(tmp_path) == {
        "template": "in a list",
        "special_tokens": {"bos_token": "<s>", "eos_token": "</s>"},
    }
    (tmp_path / "chat_template.jinja").write_text("in a file", encoding="utf-8")
    found = read_chat_template(tmp_path)
    assert found is not None
    assert found["template"] == "in a file"
    (tmp_path / "tokenizer_config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"tokenizer_config\.json: not JSON"):
        read_chat_template(tmp_path)


@pytest.mark.parametrize("name", STYLES)
@pytest.mark.parametrize("messages", [[USER, ANSWERED], [SYSTEM, USER, ANSWERED, AGAIN, LAST]], ids=["one", "two"])
def test_each_style_can_be_written_as_a_template(name: str, messages: list[Message]) -> None:
    ours, tokenizer = style(name), ByteTokenizer(end_of_text=True)
    tokens = {"eos_token": "<|endoftext|>"}
    theirs = ChatTemplate(name="theirs", template=ours.template, special_tokens=tokens, date=None, variables={})
    assert question_ids(theirs, messages[:-1], tokenizer) == question_ids(ours, messages[:-1], tokenizer)
    assert encode_rows(theirs, messages, tokenizer) == encode_rows(ours, messages, tokenizer)
    assert theirs.stop in (ours.stop, ("<|endoftext|>",))
