"""InstructionData from files to rows."""

import json
import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from rich.console import Console

from gptlab.batch import IGNORE_INDEX
from gptlab.config.build import build
from gptlab.config.compose import compose_config
from gptlab.config.plain import Config, plain, resolved
from gptlab.data.chat.chatterbot import ChatterBotReader
from gptlab.data.chat.dataset import InstructionData
from gptlab.data.chat.prepared import PreparedConversations
from gptlab.data.chat.read_log import ReadLog
from gptlab.data.chat.readers import Conversation
from gptlab.data.files.paths import collect
from gptlab.prompts.protocol import Message
from gptlab.tokenizer import gpt2
from gptlab.tokenizer.bytes import ByteTokenizer
from gptlab.tokenizer.char import train as train_char
from tests.prompts.test_style import style
from tests.prompts.test_template import chat_template

BYTES = ByteTokenizer(end_of_text=True)


def alpaca(n: int) -> list[dict[str, str]]:
    return [{"instruction": f"Say {i}.", "input": "twice" * (i % 2), "output": f"{i}"} for i in range(n)]


def write(path: Path, records: Sequence[Any]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    else:
        path.write_text(json.dumps(records), encoding="utf-8")
    return path


@cache
def chat() -> Config:
    return compose_config("train", ["data=chat", "data.path=any.json"]).data


def instructions(path: Path, form: str = "alpaca", *overrides: str) -> InstructionData:
    """Build data=chat with these overrides."""
    changed = [word.removeprefix("data.") for word in (f"path={path}", f"reader.format={form}", *overrides)]
    return build(resolved(OmegaConf.merge(OmegaConf.create(plain(chat())), OmegaConf.from_dotlist(changed))), "data")


def prepared(data: InstructionData, context_length: int = 64, prompt: str = "plain") -> PreparedConversations:
    return data.prepare(BYTES, context_length=context_length, style=style(prompt))


def read_back(ids: np.ndarray) -> str:
    return BYTES.decode(ids.tolist())


def test_the_books_split_and_rows(shared_data: Path) -> None:
    """Check 935, 110 and 55 rows to train, test and validate, in file order; every token but the first is a target."""
    path = shared_data / "instruction-data.json"
    entries = json.loads(path.read_text(encoding="utf-8"))
    overrides = ["experiment=finetune_assistant", f"data.path={path}"]
    cfg = compose_config("train", overrides)
    data, tokenizer = build(cfg.data, "data"), gpt2.load(encoding="gpt2")
    wanted = {"train": entries[:935], "test": entries[935:1045], "val": entries[1045:]}
    for split, chosen in wanted.items():
        assert [c.messages[-1].content for c in data.conversations(split)] == [entry["output"] for entry in chosen]
    ready = data.prepare(tokenizer, context_length=1024, style=build(cfg.prompt, "prompt"))
    assert (len(ready.train), len(ready.val), len(ready.test)) == (935, 55, 110)
    batch = ready.train[np.arange(8)]
    assert (
        (batch["targets"] != IGNORE_INDEX).sum(dim=1)
        == torch.tensor([len(r.ids) for r in ready.splits["train"].rows[:8]])
    ).all()
    assert batch["targets"].amax(dim=1).tolist() == [50256] * 8
    assert torch.equal(
        batch["ids"][:, 1:][batch["targets"][:, 1:] >= 0], batch["targets"][:, :-1][batch["targets"][:, 1:] >= 0]
    )


def test_only_answers_are_learned(tmp_path: Path) -> None:
    talk = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Bye"},
        {"role": "assistant", "content": "See you"},
    ]
    shared = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
    path = write(tmp_path / "talk.jsonl", [{"messages": talk}, {"conversations": shared}] * 5)
    data = prepared(instructions(path, "messages", "data.split_seed=null", "data.test_fraction=0"))
    (first, second, *_) = data.splits["train"].rows
    assert read_back(first.ids) == "Be kind.\nHi\nHello<|endoftext|>Bye\nSee you"
    assert read_back(first.targets[first.targets != IGNORE_INDEX]) == "Hello<|endoftext|>See you<|endoftext|>"
    assert read_back(second.ids) == "Hi\nHello"
    assert data.test is None


def test_a_template_that_rewrites_its_history_gives_a_row_per_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    turns = [("user", "Hi"), ("assistant", "Hello" * 9), ("user", "And?"), ("assistant", "Bye")]
    talk = {"messages": [{"role": role, "content": content} for role, content in turns]}
    path = write(tmp_path / "talk.jsonl", [talk, {"messages": talk["messages"][:2]}] * 5)
    forgetful = chat_template(
        "{% for m in messages %}{{ m.content if m.role == 'user' or loop.last else '(an answer)' }};{% endfor %}"
    )
    data = instructions(path, "messages", "data.split_seed=null", "data.test_fraction=0", "data.val_fraction=0.2")
    with caplog.at_level(logging.WARNING):
        ready = data.prepare(BYTES, context_length=40, style=forgetful)
    split = ready.splits["train"]
    assert [read_back(row.ids) for row in split.rows[:3]] == [
        "Hi;" + "Hello" * 7 + "He",
        "Hi;(an answer);And?;Bye;",
        "Hi;" + "Hello" * 7 + "He",
    ]
    assert [read_back(row.targets[row.targets != IGNORE_INDEX]) for row in split.rows[1:2]] == ["Bye;<|endoftext|>"]
    assert (len(split.conversations), len(split.rows), split.n_answers, split.n_cut) == (8, 12, 12, 8)
    assert split.places[:3] == [f"{path}, line 1", f"{path}, line 1", f"{path}, line 2"]
    assert "8 of 12 train rows, one an answer, were cut at model.context_length=40" in caplog.text
    assert "(8 conversations in 12 rows, one an answer)" in ready.summary_line()
    counts = ready.describe(BYTES, n_examples=1, vectors={})["splits"]["train"]
    assert (counts["conversations"], counts["rows"], counts["answers"]) == (8, 12, 12)


def test_pairs_have_the_row_of_their_last_answer(tmp_path: Path) -> None:
    forgetful = chat_template(
        "{% for m in messages %}{{ m.content if m.role == 'user' or loop.last else '(an answer)' }};{% endfor %}"
    )
    told = [{"role": role, "content": text} for role, text in (("user", "Hi"), ("assistant", "Ho"), ("user", "And?"))]
    answers = {key: [*told, {"role": "assistant", "content": key}] for key in ("chosen", "rejected")}
    path = write(tmp_path / "pairs.json", [answers] * 10)
    words = [
        "data=preferences",
        "head=preference",
        f"data.path={path}",
        "data.reader.format=messages",
        "data.split_seed=null",
    ]
    data = build(compose_config("train", words).data, "data").prepare(BYTES, context_length=60, style=forgetful)
    batch = data.train[np.arange(1)]
    assert [read_back(row[:28].numpy()) for row in batch["ids"]] == [
        "Hi;(an answer);And?;chosen;\0",
        "Hi;(an answer);And?;rejected",
    ]
    learned = [row[row != IGNORE_INDEX].numpy() for row in batch["targets"]]
    assert list(map(read_back, learned)) == ["chosen;<|endoftext|>", "rejected;<|endoftext|>"]


def test_columns_of_a_table(tmp_path: Path) -> None:
    path = tmp_path / "faq.csv"
    path.write_text("q,a\n" + "".join(f'"Why, {i}?",Because {i}\n' for i in range(10)), encoding="utf-8")
    columns = ("data.reader.prompt_field=q", "data.reader.response_field=a", "data.split_seed=null")
    data = instructions(path, "columns", *columns)
    assert data.conversations("train")[0] == Conversation(
        (Message("user", "Why, 0?"), Message("assistant", "Because 0")), f"{path}, line 2"
    )
    assert [len(data.conversations(split)) for split in ("train", "val", "test")] == [8, 1, 1]


def test_equal_questions_stay_together(tmp_path: Path) -> None:
    records = [{"instruction": f"Say {i % 40}.", "input": "", "output": f"{i}"} for i in range(200)]
    path = write(tmp_path / "many.json", records)
    first = instructions(path)
    asked = {
        split: {conversation.question for conversation in first.conversations(split)}
        for split in ("train", "val", "test")
    }
    assert sum(map(len, asked.values())) == 40
    assert [len(first.conversations(split)) for split in asked] == [160, 20, 20]
    assert instructions(path).splits == first.splits
    assert instructions(path, "alpaca", "data.split_seed=5").splits != first.splits


def test_a_test_set_of_its_own(tmp_path: Path) -> None:
    train, test = write(tmp_path / "train.json", alpaca(10)), write(tmp_path / "test.json", alpaca(3))
    data = instructions(train, "alpaca", f"data.test_path={test}")
    assert [len(data.conversations(split)) for split in ("train", "val", "test")] == [9, 1, 3]


def test_conversations_that_do_not_fit_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    long_question = {"instruction": "?" * 40, "input": "", "output": "yes"}
    long_answer = {"instruction": "?", "input": "", "output": "y" * 60}
    empty = {"instruction": "?", "input": "", "output": " "}
    path = write(tmp_path / "odd.json", [long_question, long_answer, empty, *alpaca(20)])
    common = ("data.split_seed=null", "data.test_fraction=0")
    with caplog.at_level(logging.WARNING):
        cut = prepared(instructions(path, "alpaca", *common), 32).splits["train"]
    assert (len(cut.rows), cut.n_cut, cut.n_overlong, cut.n_unanswered) == (19, 1, 0, 1)
    assert read_back(cut.rows[0].ids) == "?\n" + "y" * 30
    assert f"left out 1 of 23 conversations: an answer is empty, first in {path}, entry 3" in caplog.text
    assert "1 of 20 train conversations were cut at model.context_length=32" in caplog.text
    assert "1 of 20 train conversations have no answer within model.context_length=32" in caplog.text
    dropped = prepared(instructions(path, "alpaca", *common, "data.overlong=drop"), 32).splits["train"]
    assert (len(dropped.rows), dropped.n_cut, dropped.n_overlong, dropped.n_unanswered) == (18, 0, 2, 0)
    whole = prepared(instructions(path, "alpaca", *common, "data.train_on=all"), 32).splits["train"]
    assert (len(whole.rows), whole.n_unanswered) == (19, 1), "a question alone teaches no answers"


def test_a_context_without_an_answer_is_reported(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", alpaca(10))
    with pytest.raises(
        ValueError, match=r"none of 8 train conversations has an answer within model\.context_length=2: raise it"
    ):
        prepared(instructions(path), 2)


@pytest.mark.parametrize(
    ("format", "record", "sentence"),
    [
        (
            "messages",
            {"messages": [{"role": "bot", "content": "a"}]},
            "message 1: the role is 'bot', wanted one of system",
        ),
        (
            "messages",
            {"messages": [{"role": "user"}]},
            r"message 1 is \{'role': 'user'\}, wanted \{role: \.\.\., content",
        ),
        (
            "messages",
            {"messages": [{"role": "assistant", "content": "a"}]},
            "the turns are assistant, wanted a question and its answer; data.on_error=skip leaves such records out",
        ),
        ("messages", {"messages": []}, "there is no message, wanted an answer at the end"),
        ("messages", {"question": "a"}, "no list 'messages'; there are question: choose the file"),
        ("alpaca", {"prompt": "a"}, "no 'instruction'; there are prompt: choose the file's format with"),
        ("alpaca", {"instruction": "a", "output": 3}, "'output' is 3, wanted a text"),
        (
            "columns",
            {"question": "a"},
            r"no field 'prompt'; there are question: name one with data\.reader\.prompt_field=",
        ),
    ],
)
def test_a_record_of_another_format_is_reported(
    format: str, record: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / "talk.jsonl"
    path.write_text(f"\n{json.dumps(record)}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"^{path}, line 2: {sentence}"):
        instructions(path, format).conversations("train")


def test_fractions_without_a_training_set_are_reported(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", alpaca(3))
    with pytest.raises(
        ValueError, match=r"data\.val_fraction=0\.5 and data\.test_fraction=0\.5 leave nothing to train"
    ):
        instructions(path, "alpaca", "data.val_fraction=0.5", "data.test_fraction=0.5").conversations("train")
    with pytest.raises(ValueError, match="of 3 conversations, 3 are in the training set and 0 in the validation set"):
        instructions(path, "alpaca", "data.split_seed=null").conversations("train")


def test_conversations_of_one_question_are_reported(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", [{"instruction": "Say.", "input": "", "output": f"{i}"} for i in range(30)])
    with pytest.raises(ValueError, match=r"all 30 conversations ask the same question, .*data\.split_seed=null"):
        instructions(path).conversations("train")


def test_a_text_without_tokens_is_reported_with_its_place(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", [*alpaca(12), {"instruction": "é", "input": "", "output": "x"}])
    data = instructions(path, "alpaca", "data.split_seed=null", "data.test_fraction=0")
    tokenizer = train_char(data.training_text(), unknown=False, end_of_text=True)
    with pytest.raises(ValueError, match=rf"{path}, entry 13: the character 'é'"):
        data.prepare(tokenizer, context_length=32, style=style("plain"))


def test_the_fingerprint_changes_with_the_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", alpaca(20))

    def fingerprint(*overrides: str, prompt: str = "plain", context_length: int = 64) -> str:
        return prepared(instructions(path, "alpaca", *overrides), context_length, prompt).fingerprint

    assert fingerprint("data.batch_size=3") == fingerprint()
    others = [fingerprint(prompt="chatml"), fingerprint("data.train_on=all"), fingerprint("data.packing=true")]
    others += [
        fingerprint("data.split_seed=9"),
        fingerprint("data.group_by_length=false"),
        fingerprint(context_length=60),
    ]
    assert len({fingerprint(), *others}) == 7


def test_samples_begin_with_questions(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", alpaca(50))
    data = prepared(instructions(path, "alpaca", "data.split_seed=null"), 100, "chatml")
    sample_prompts = data.sample_prompts(BYTES, None)
    assert [opening.shown for opening in sample_prompts] == [
        "> Say 45.\n> twice\n",
        "> Say 46.\n",
        "> Say 47.\n> twice\n",
    ]
    assert BYTES.decode(sample_prompts[1].ids) == "<|im_start|>user\nSay 46.<|im_end|>\n<|im_start|>assistant\n"
    assert sample_prompts[1].stop == ("<|im_end|>",)
    (asked,) = data.sample_prompts(BYTES, "Who?")
    assert (asked.shown, "Who?" in BYTES.decode(asked.ids)) == ("> Who?\n", True)
    assert list(data.held_out()) == []
    assert data.labels == {}
    answers = sum(len(str(i)) + len("<|im_end|>") + 1 for i in range(40))
    assert data.summary_line().startswith(f"training on {answers} of ")


@pytest.mark.parametrize("packing", ["true", "false"])
def test_the_report_shows_what_is_learned(packing: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", alpaca(40))
    data = prepared(instructions(path, "alpaca", f"data.packing={packing}", "data.split_seed=null"), 100, "chatml")
    report = data.describe(BYTES, n_examples=2, vectors={})
    assert json.loads(json.dumps(report)) == report
    assert [example["place"] for example in report["examples"]] == [f"{path}, entry 1", f"{path}, entry 32"]
    assert report["examples"][1]["runs"] == [
        {
            "text": "<|im_start|>user\nSay 31.\ntwice<|im_end|>\n<|im_start|>assistant\n",
            "learned": False,
            "special": False,
        },
        {"text": "31<|im_end|>", "learned": True, "special": False},
        {"text": "<|endoftext|>", "learned": True, "special": True},
    ]
    console = Console(record=True, width=100, force_terminal=True, file=(tmp_path / "shown").open("w"))
    console.print(data.render(report))
    shown = console.export_text(styles=True)
    assert "\x1b[32m31" in shown.replace("\x1b[22;32m", "\x1b[32m")
    assert "Padding" in shown
    console.file.close()


def test_small_talk(tmp_path: Path) -> None:
    """Check that each pair of the package is there once, and no question in two splits."""
    pytest.importorskip("chatterbot_corpus", reason="the samples extra brings it")
    data = build(compose_config("train", ["data=chatter"]).data, "data")
    splits = {split: data.conversations(split) for split in ("train", "val", "test")}
    whole = [conversation.messages for split in splits.values() for conversation in split]
    assert len(set(whole)) == len(whole) == 1082
    asked = [{conversation.question for conversation in split} for split in splits.values()]
    assert len(set.union(*asked)) == sum(map(len, asked)) == 748
    assert [len(split) for split in splits.values()] == [866, 108, 108]


def chatter(folder: Path, **files: str) -> list[Conversation]:
    for name, text in files.items():
        (folder / f"{name}.yml").write_text(text, encoding="utf-8")
    reader = ChatterBotReader(sha256=None)
    files = collect(str(folder), endings=reader.endings, sha256=None, cache_dir=folder, max_expansion=100)
    return list(reader.read(files, ReadLog(on_error="error", repair=True)))


def test_chatterbot_files_have_turns_or_several_answers(tmp_path: Path) -> None:
    turns = "conversations:\n- [Hi, Hello, How are you?]\n- a slip\n- [Hi, Hello]\n- [a, b, c, d]\n"
    found = chatter(tmp_path, emotion="conversations:\n- [Sad?, 'No.', Never.]\n", talk=turns)
    assert [[message.content for message in conversation.messages] for conversation in found] == [
        ["Sad?", "No."],
        ["Sad?", "Never."],
        ["Hi", "Hello"],
        ["a", "b", "c", "d"],
    ]
    assert found[-1].place == f"{tmp_path / 'talk.yml'}, entry 4"


def test_small_talk_of_another_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"talk\.yml is not a list of conversations"):
        chatter(tmp_path, talk="[")
    reader = ChatterBotReader(sha256="0" * 64)
    files = collect(str(tmp_path), endings=reader.endings, sha256=None, cache_dir=tmp_path, max_expansion=100)
    with pytest.raises(ValueError, match=rf"{tmp_path} has the sha256 .*, but data\.reader\.sha256 is 000"):
        list(reader.read(files, ReadLog(on_error="error", repair=True)))
