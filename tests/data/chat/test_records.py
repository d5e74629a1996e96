"""Conversations as other programs write them: keys that change their meaning, faults, turns out of order."""

import json
import logging
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from gptlab.batch import IGNORE_INDEX
from gptlab.config.build import build
from gptlab.config.compose import compose_config
from gptlab.config.plain import Config, plain, resolved
from gptlab.data.chat.dataset import InstructionData
from gptlab.data.chat.preferences import PreferenceData
from gptlab.data.protocol import EvaluationRequest
from gptlab.prompts.protocol import Message
from tests.data.chat.test_dataset import BYTES, instructions, prepared, read_back, write
from tests.prompts.test_style import style
from tests.prompts.test_template import chat_template

IN_ORDER = ("data.split_seed=null", "data.test_fraction=0")


def user(content: Any, **keys: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **keys}


def assistant(content: Any, **keys: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **keys}


GOOD = {"messages": [user("Hi"), assistant("Ho")]}


def talks(folder: Path, *records: Any, form: str = "messages", words: tuple[str, ...] = ()) -> InstructionData:
    """Return data of these records, and of ten good ones at the end."""
    good = [GOOD if form == "messages" else {"instruction": f"{i}", "output": "a"} for i in range(10)]
    return instructions(write(folder / "a.jsonl", [*records, *good]), form, *IN_ORDER, *words)


def first(folder: Path, *records: Any, form: str = "messages") -> tuple[Message, ...]:
    return talks(folder, *records, form=form).conversations("train")[0].messages


def learned(row: Any) -> str:
    return read_back(row.targets[row.targets != IGNORE_INDEX])


OFF = [{"weight": 0}, {"weight": 0.0}, {"train": False}, {"training": False}, {"loss": False}, {"masked": True}]
THREE = [user("a"), assistant("one"), user("b"), assistant("two"), user("c"), assistant("three")]


def test_an_answer_that_is_turned_off_is_read_and_not_learned(tmp_path: Path) -> None:
    records = [
        {"messages": [{**turn, **(off if turn["content"] in ("one", "three") else {})} for turn in THREE]}
        for off in OFF
    ]
    train = prepared(talks(tmp_path, *records, words=("data.packing=true",))).splits["train"]
    for row in train.rows[: len(OFF)]:
        assert (read_back(row.ids), learned(row)) == ("a\none<|endoftext|>b\ntwo", "two<|endoftext|>")
    assert train.n_answers == len(train.rows) == 14


@pytest.mark.parametrize("prompt", ["alpaca", "chatml", "phi3", "plain"])
def test_no_style_learns_an_answer_that_is_turned_off(prompt: str, tmp_path: Path) -> None:
    data = prepared(talks(tmp_path, {"messages": [user("a"), assistant("one", weight=0), *THREE[2:4]]}), 300, prompt)
    row = data.splits["train"].rows[0]
    assert "one" in read_back(row.ids)
    assert learned(row).startswith("two")


MARKS = "{% generation %}{{ m.content }}{% endgeneration %}"
TEMPLATES = {
    "with marks": ("{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}:{% else %}" + MARKS, "{% endif %}"),
    "without marks": ("{% for m in messages %}{{ m.content }}", "{% if m.role == 'user' %}:{% endif %}"),
    "that forgets": ("{% for m in messages %}{{ m.content if m.role == 'user' or loop.last else '?' }}:", ""),
}


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_no_template_learns_an_answer_that_is_turned_off(template: tuple[str, str], tmp_path: Path) -> None:
    turns = [*THREE[:2], user("b"), assistant("two", weight=0), *THREE[4:]]
    data = talks(tmp_path, {"messages": turns})
    ready = data.prepare(BYTES, context_length=64, style=chat_template("".join(template) + "{% endfor %}"))
    train = ready.splits["train"]
    rows = [row for row, place in zip(train.rows, train.places, strict=True) if place.endswith("line 1")]
    assert [learned(row).split("<")[0].replace(":", "") for row in rows] in (["onethree"], ["one", "three"])


def test_a_template_that_marks_parts_of_an_answer_cannot_leave_one_out(tmp_path: Path) -> None:
    turns = [user("a"), assistant("one", weight=0), *THREE[2:4]]
    halves = chat_template("{% for m in messages %}" + MARKS + "{% if m.role == 'user' %}:{% endif %}{% endfor %}")
    with pytest.raises(ValueError, match=r"a\.jsonl, line 1: the chat template does not mark each answer once"):
        talks(tmp_path, {"messages": turns}).prepare(BYTES, context_length=64, style=halves)


def test_evaluation_scores_what_training_learns(tmp_path: Path) -> None:
    """The validation set is the last conversation of the file."""
    last = {"messages": [user("a"), assistant("one", weight=0), *THREE[2:4], user("c"), assistant("three", weight=0)]}
    path = write(tmp_path / "a.jsonl", [GOOD] * 9 + [last])
    data = instructions(path, "messages", *IN_ORDER)
    request = EvaluationRequest("val", BYTES, lambda: style("plain"), 64, 64, 64, classes=(), n_answers=1)
    evaluated = data.evaluation_set(request)
    batch = evaluated.scored.rows[np.arange(1)]
    targets = batch["targets"][0].numpy()
    assert read_back(targets[targets != IGNORE_INDEX]) == "two<|endoftext|>"
    assert (evaluated.questions[0].text, evaluated.questions[0].reference) == ("a\none\nb", "two")


def test_answers_that_are_all_turned_off_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    nothing = {"messages": [user("a"), assistant("one", weight=0)]}
    assert len(talks(tmp_path, nothing).conversations("train")) == 9
    assert "left out 1 of 11 conversations: none of their answers is learned, first in" in caplog.text
    path = write(tmp_path / "b.jsonl", [nothing] * 3)
    with pytest.raises(ValueError, match=r"b\.jsonl holds no conversation with an answer to learn"):
        instructions(path, "messages").conversations("train")


@pytest.mark.parametrize("turns", [[user("a", weight=0), assistant("b")], [user("a"), assistant("b", train=False)]])
def test_training_on_everything_learns_nothing_that_is_turned_off(turns: list[Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"line 1: a message is not to be learned, but data\.train_on=all"):
        talks(tmp_path, {"messages": turns}, words=("data.train_on=all",)).conversations("train")


SYSTEMS = {
    "ShareGPT": ("messages", {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]}),
    "OpenAI": ("messages", {"messages": [user("Hi"), assistant("Ho")]}),
    "with its own": ("messages", {"messages": [{"role": "system", "content": "Be."}, user("Hi"), assistant("Ho")]}),
    "Alpaca": ("alpaca", {"instruction": "Hi", "output": "Ho", "input": None}),
}


@pytest.mark.parametrize(("form", "record"), SYSTEMS.values(), ids=SYSTEMS)
def test_a_system_message_beside_the_turns_is_the_first(form: str, record: Any, tmp_path: Path) -> None:
    keys = ("system", "system_prompt", "system_message")
    records = [record | {key: text} for text in ("Be.", " ") for key in keys]
    read = [c.messages for c in talks(tmp_path, *records, form=form).conversations("train")]
    wanted = (Message("system", "Be."), Message("user", "Hi"), Message("assistant", "Ho"))
    assert read[:3] == [wanted] * 3
    assert [messages[-2:] for messages in read[3:6]] == [wanted[1:]] * 3


def test_a_system_column_is_the_first_message(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("system_prompt,prompt,response\n" + "Be.,Hi,Ho\n" * 10, encoding="utf-8")
    data = instructions(path, "columns", *IN_ORDER)
    assert data.conversations("train")[0].messages[0] == Message("system", "Be.")
    asked = instructions(path, "columns", *IN_ORDER, "data.reader.prompt_field=system_prompt")
    assert [message.content for message in asked.conversations("train")[0].messages] == ["Be.", "Ho"]


def test_alpacas_history_precedes_the_instruction(tmp_path: Path) -> None:
    record = {"instruction": "Hi", "output": "Ho", "history": [["One", "Two"]]}
    assert [message.content for message in first(tmp_path, record, form="alpaca")] == ["One", "Two", "Hi", "Ho"]


def test_texts_in_a_list_are_one_message(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "Look"}, {"type": "text", "text": "here"}]
    assert first(tmp_path, {"messages": [user(parts), assistant("Ho")]})[0].content == "Look\nhere"


def test_both_forms_of_messages_are_read_from_both_fields(tmp_path: Path) -> None:
    told = (("developer", "Be."), ("human", "Hi"), ("gpt", "Ho"))
    forms = [[dict(zip(keys, turn, strict=True)) for turn in told] for keys in (("from", "value"), ("role", "content"))]
    records = [{field: turns} for field in ("messages", "conversations") for turns in forms]
    for conversation in talks(tmp_path, *records).conversations("train")[:4]:
        assert [message.role for message in conversation.messages] == ["system", "user", "assistant"]


def test_keys_that_change_nothing_are_counted_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    records = [{"messages": [user("Hi", ts=1, name=None), assistant("Ho", ts=2)], "id": 1, "tools": []}] * 3
    talks(tmp_path, *records).conversations("train")
    unused = "id (in 3 records), tools (in 3 records), ts (in 6 messages), name (in 3 messages)"
    assert [line for line in caplog.messages if "not used" in line] == [f"keys that are not used: {unused}"]


def test_a_key_that_is_ignored_is_not_refused(tmp_path: Path) -> None:
    record = {"messages": [user("Hi", name="Bo"), assistant("Ho")], "tools": [{"a": 1}], "system": 3}
    with pytest.raises(ValueError, match=r"ignore it with data\.reader\.ignore=\[name\]"):
        talks(tmp_path, record).conversations("train")
    data = talks(tmp_path, record, words=("data.reader.ignore=[name,tools,system]",))
    assert [message.content for message in data.conversations("train")[0].messages] == ["Hi", "Ho"]


OUT_OF_ORDER = [
    {"role": "system", "content": "Be."},
    assistant("Welcome"),
    user("Hi"),
    user("you"),
    assistant("Ho"),
    assistant("!"),
    user("Bye"),
]


def test_turns_out_of_order_are_repaired_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    record = {"messages": OUT_OF_ORDER}
    assert first(tmp_path, GOOD, record, record) == (Message("user", "Hi"), Message("assistant", "Ho"))
    mended = talks(tmp_path, record, record).conversations("train")[0].messages
    assert [message.content for message in mended] == ["Be.", "Hi\n\nyou", "Ho\n\n!"]
    (line, *_) = [line for line in caplog.messages if line.startswith("repaired conversations")]
    for kind in ("joined turns of one speaker", "dropped the answer before", "dropped the question after"):
        assert f"{kind}" in line
    assert line.count(f"in 2 (first in {tmp_path / 'a.jsonl'}, line 2)") == 3
    with pytest.raises(ValueError, match=r"line 1: message 2 is the assistant's, .*; data\.repair=true repairs it"):
        talks(tmp_path, record, words=("data.repair=false",)).conversations("train")


def test_one_answer_of_two_in_a_row_cannot_be_turned_off(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"line 1: two answers in a row, of which one is learned and one is not"):
        talks(tmp_path, {"messages": [user("a"), assistant("b"), assistant("c", weight=0)]}).conversations("train")


def test_malformed_records_are_left_out_with_a_count(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.jsonl"
    good = json.dumps(GOOD).encode()
    wrong = [
        b"\xff",
        b"{",
        b"[" * 10_000,
        b"3",
        b'{"messages": 3}',
        b'{"messages": [{"role": ["user"], "content": "a"}]}',
    ]
    path.write_bytes(b"\n".join([good, *wrong, *[good] * 9]))
    with pytest.raises(ValueError, match=r"a\.jsonl, line 2: not UTF-8.*; data\.on_error=skip leaves such"):
        instructions(path, "messages", *IN_ORDER).conversations("train")
    data = instructions(path, "messages", *IN_ORDER, "data.on_error=skip")
    assert len(data.conversations("all")) == 10
    (line,) = [line for line in caplog.messages if line.startswith("left out 6 of 16 records that are malformed: ")]
    assert line.count("a.jsonl, line ") == 3
    assert "a.jsonl, line 4: not JSON (nested too deeply)" in line
    path.write_bytes(b"\n".join(wrong))
    with pytest.raises(ValueError, match=r"none of 6 records can be used, first: .*a\.jsonl, line 1: not UTF-8"):
        instructions(path, "messages", "data.on_error=skip").conversations("all")


def test_two_questions_leave_one_to_train_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    asked = [{"instruction": f"Say {i % 2}.", "output": f"{i}"} for i in range(20)]
    splits = instructions(write(tmp_path / "a.json", asked)).splits
    assert [len(split) for split in splits] == [10, 10, 0]
    assert "there is no test set: the 20 conversations ask 2 different questions only" in caplog.text


@cache
def preferences() -> Config:
    return compose_config("train", ["data=preferences", "head=preference", "data.path=any.json"]).data


def pairs(folder: Path, records: list[Any], *words: str, form: str = "columns") -> PreferenceData:
    path = write(folder / "pairs.jsonl", records)
    changed = [word.removeprefix("data.") for word in (f"path={path}", f"reader.format={form}", *words)]
    cfg = OmegaConf.merge(OmegaConf.create(plain(preferences())), OmegaConf.from_dotlist(changed))
    return build(resolved(cfg), "data")


WHOLE = {key: [user("Hi"), assistant(key)] for key in ("chosen", "rejected")}
ENDS = {key: turns[1:] for key, turns in WHOLE.items()}
PAIRS = {
    "columns": ("columns", {"prompt": "Hi", "chosen": "chosen", "rejected": "rejected"}),
    "whole": ("messages", WHOLE),
    "whole, the question again": ("messages", WHOLE | {"prompt": "Hi ", "messages": WHOLE["chosen"]}),
    "TRL": ("messages", ENDS | {"prompt": [user("Hi")]}),
    "a question as text": ("messages", ENDS | {"prompt": "Hi"}),
    "one message": (
        "messages",
        {key: {"from": "gpt", "value": key} for key in ENDS} | {"conversations": [{"from": "human", "value": "Hi"}]},
    ),
}


@pytest.mark.parametrize(("form", "record"), PAIRS.values(), ids=PAIRS)
def test_pairs_of_other_programs_and_their_system_message(form: str, record: Any, tmp_path: Path) -> None:
    data = pairs(tmp_path, [record | {"system": "Be."}] * 10, "data.split_seed=null", form=form)
    wanted = {key: ["Be.", "Hi", key] for key in ("chosen", "rejected")}
    read = data.splits.train[0]
    assert {key: [m.content.strip() for m in getattr(read, key).messages] for key in wanted} == wanted


def test_a_pair_whose_question_differs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"line 1: chosen begins with another question than the record"):
        pairs(tmp_path, [WHOLE | {"prompt": "Why?"}] * 9, form="messages").splits  # noqa: B018
    off = WHOLE | {"chosen": [user("Hi"), assistant("chosen", weight=0)]}
    with pytest.raises(ValueError, match=r"line 1: an answer is not to be learned, wanted two that are"):
        pairs(tmp_path, [off] * 9, form="messages").splits  # noqa: B018


def test_pairs_that_are_equal_within_the_context_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    long = [{"prompt": f"{i}", "chosen": "a" * 60 + "b", "rejected": "a" * 60 + "c"} for i in range(5)]
    short = [{"prompt": f"{i}", "chosen": "b", "rejected": "c"} for i in range(10)]
    same = [{"prompt": "a", "chosen": "b", "rejected": "b"}, {"prompt": "a", "chosen": " ", "rejected": "b"}]
    words = ("data.split_seed=null", "data.test_fraction=0")
    data = pairs(tmp_path, [*long, *same, *short], *words).prepare(BYTES, context_length=32, style=style("plain"))
    assert (len(data.train), len(data.val)) == (8, 2)
    assert "left out 5 of 13 train pairs: two answers are equal within model.context_length=32" in caplog.text
    assert "left out 1 of 17 pairs: their two answers are equal" in caplog.text
    assert "left out 1 of 17 pairs: an answer is empty" in caplog.text
    with pytest.raises(ValueError, match="none of 4 train pairs can be learned, in 4 two answers are equal within"):
        pairs(tmp_path, long, "data.val_fraction=0.2", *words).prepare(BYTES, context_length=32, style=style("plain"))
    with pytest.raises(ValueError, match=r"pairs\.jsonl holds no pair of two different answers"):
        pairs(tmp_path, same).splits  # noqa: B018
