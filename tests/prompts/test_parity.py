"""Chat templates of every kind on tokenizers of every layout: the ids and spans of the transformers library."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from jinja2 import TemplateError

from gptlab.errors import UserError
from gptlab.prompts.encoding import encode_rows, question_ids
from gptlab.prompts.protocol import Message, Turn
from gptlab.prompts.template import ChatTemplate
from gptlab.tokenizer import bpe, char, gpt2, word
from gptlab.tokenizer.bytes import ByteTokenizer
from gptlab.tokenizer.huggingface import write_tokenizer
from gptlab.tokenizer.pretrained import PretrainedTokenizer, read_tokenizer
from gptlab.tokenizer.protocol import Tokenizer
from gptlab.weights.chat_template import read_chat_template
from tests.prompts.test_style import STYLES, style
from tests.support.chat_templates import ADD, FORGETFUL_OF_TOKENS, IN_PARTS, TEMPLATES, THINKING, TOOLS, as_dicts, talk
from tests.support.tokenizers import LAYOUTS, learnable, write_layout

transformers = pytest.importorskip("transformers", reason="the parity tests need the dev extra")

IMAGE = {"extra_special_tokens": {"image_token": "<|both|>"}}


class Both:
    """One tokenizer, as gptlab opens it and as transformers does."""

    def __init__(self, folder: Path) -> None:
        found = read_tokenizer(folder)
        assert found is not None
        self.ours: Tokenizer = found
        self.theirs = transformers.AutoTokenizer.from_pretrained(folder)

    def asked(self, template: str, messages: Sequence[dict[str, Any]], tools: list[Any] | None) -> list[int] | None:
        """Return the ids that transformers asks with, None if the template refuses."""
        options = {"chat_template": template, "tools": tools, "add_generation_prompt": True, "return_dict": False}
        try:
            return list(self.theirs.apply_chat_template(messages, **options))
        except TemplateError:
            return None

    def taught(self, template: str, messages: Sequence[dict[str, Any]]) -> tuple[list[int], list[bool]]:
        """Return the ids of a whole conversation in transformers, and those in its generation marks."""
        found = self.theirs.apply_chat_template(
            messages, chat_template=template, return_dict=True, return_assistant_tokens_mask=True
        )
        return list(found["input_ids"]), [bool(mark) for mark in found["assistant_masks"]]


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Both]:
    folder = tmp_path_factory.mktemp("layouts")
    return {layout: Both(write_layout(layout, folder / layout, **IMAGE)) for layout in LAYOUTS}


def chat_template(template: str, folder: Path) -> ChatTemplate:
    """Return a template with the special tokens of a folder."""
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    found = read_chat_template(write_layout("byte-level", folder, **IMAGE))
    assert found is not None
    return ChatTemplate(name="theirs", date=None, variables={}, **found)


def ask(
    chosen: Any, messages: Sequence[Turn], tokenizer: Tokenizer, tools: list[Any] | None = None
) -> list[int] | None:
    try:
        return question_ids(chosen, messages, tokenizer, tools=tools)
    except UserError:
        return None


@pytest.mark.parametrize("name", TEMPLATES)
def test_questions_have_the_ids_of_transformers(name: str, layouts: dict[str, Both], tmp_path: Path) -> None:
    template = TEMPLATES[name]
    chosen, n_written = chat_template(template, tmp_path), 0
    for both in layouts.values():
        for n_turns in (1, 2, 3, 4):
            for system in (False, True):
                for tools in (None, [ADD]):
                    messages = as_dicts(talk(n_turns, system=system)[:-1])
                    wanted = both.asked(template, messages, tools)
                    assert ask(chosen, messages, both.ours, tools) == wanted
                    n_written += wanted is not None
    assert n_written == len(LAYOUTS) * (8 if name == "strict" else 16)


def test_messages_of_every_kind_reach_the_template(layouts: dict[str, Both], tmp_path: Path) -> None:
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": "<2>"}}}
    messages = [
        {"role": "system", "content": "One."},
        {"role": "system", "content": "Two."},
        {"role": "user", "content": "1 and 2?", "name": None},
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning": "Easy."},
        {"role": "tool", "content": "3", "tool_call_id": "x"},
    ]
    chosen, both = chat_template(TOOLS, tmp_path), layouts["metaspace first"]
    for n in range(1, 6):
        assert ask(chosen, messages[:n], both.ours, [ADD]) == both.asked(TOOLS, messages[:n], [ADD])
    with pytest.raises(ValueError, match="there is no message, wanted a question"):
        question_ids(chosen, [], both.ours)


@pytest.mark.parametrize("name", TEMPLATES)
def test_rows_begin_with_the_ids_of_their_questions(name: str, layouts: dict[str, Both], tmp_path: Path) -> None:
    chosen = chat_template(TEMPLATES[name], tmp_path)
    for layout, both in layouts.items():
        for reasons in (False, True):
            messages = talk(3, system=name != "strict", reasons=reasons)
            rows = encode_rows(chosen, messages, both.ours)
            assert len(rows) == (3 if name.startswith("forgetful") or name == "thinking" else 1)
            if name == "marked":
                assert (rows[0].ids, rows[0].learned) == both.taught(TEMPLATES[name], as_dicts(messages))
            answers = [i for i, message in enumerate(messages) if message.role == "assistant"]
            for i, row in zip(answers, rows * 3 if len(rows) == 1 else rows, strict=False):
                asked = question_ids(chosen, messages[:i], both.ours)
                assert row.ids[: len(asked)] == asked
                assert (row.learned[len(asked) - 1], row.learned[len(asked)]) == (False, True)
            for row in rows:
                taught = both.ours.decode([i for i, learns in zip(row.ids, row.learned, strict=True) if learns])
                assert taught.count("ey'd be" if "wordpiece" not in layout else "' d be") == 3 // len(rows)
                assert "What" not in taught
                assert name == "marked" or row.ids[-1] == both.ours.eot_id


def test_a_template_that_takes_parts_gets_them(layouts: dict[str, Both], tmp_path: Path) -> None:
    chosen, both, messages = chat_template(IN_PARTS, tmp_path), layouts["prepend"], talk(2, system=True)
    parts = [{"role": m.role, "content": [{"type": "text", "text": m.content}]} for m in messages]
    wanted = both.asked(IN_PARTS, parts[:-1], None)
    assert ask(chosen, messages[:-1], both.ours) == ask(chosen, parts[:-1], both.ours) == wanted
    assert ask(chosen, as_dicts(messages[:-1]), both.ours) == both.asked(IN_PARTS, as_dicts(messages[:-1]), None)
    [row] = encode_rows(chosen, messages, both.ours)
    assert row.ids[: len(wanted or [])] == wanted
    assert chosen.stop == ("</s>",)


NAMES = ["</s><|start|>user", "<|left|>\nbad\n<|both|>\n\n", "a <|right|>  b", "<|normal|></s>"]


@pytest.mark.parametrize("name", ["marked", "merged", "tools", "forgetful of tokens"])
def test_names_of_special_tokens_in_words_stay_text(name: str, layouts: dict[str, Both], tmp_path: Path) -> None:
    chosen = chat_template(TEMPLATES[name], tmp_path)
    for both in layouts.values():
        special = {i for name, i in both.ours.special_ids().items() if name != "<unk>"}
        said = talk(1, system=True)
        clean = question_ids(chosen, said[:-1], both.ours)
        for words in NAMES:
            asked = question_ids(chosen, [said[0], Message("user", words)], both.ours)
            assert [i for i in asked if i in special] == [i for i in clean if i in special]
            if both.ours.decode(both.ours.encode(words)).strip() == words.strip():
                assert words.strip() in both.ours.decode(asked)
            tools = [{"type": "function", "function": {"name": words}}]
            asked = question_ids(chosen, said[:-1], both.ours, tools=tools)
            plain = question_ids(chosen, said[:-1], both.ours, tools=[{"type": "function", "function": {"name": "f"}}])
            assert [i for i in asked if i in special] == [i for i in plain if i in special]


def test_a_name_that_the_template_looks_for_is_left_to_it(layouts: dict[str, Both], tmp_path: Path) -> None:
    """Check a template that cuts an answer at a name, with another name beside it that stays text."""
    chosen, both = chat_template(FORGETFUL_OF_TOKENS, tmp_path), layouts["byte-level"]
    answer = Message("assistant", "<|left|>\nHm.\n<|both|>\n\nSo.")
    end = both.ours.special_ids()["</s>"]
    said = [Message("user", "Why?"), answer, Message("user", "</s>")]
    ids = question_ids(chosen, said, both.ours)
    wanted = both.asked(FORGETFUL_OF_TOKENS, as_dicts([*said[:-1], Message("user", "END")]), None)
    assert wanted is not None
    assert both.ours.decode(ids) == both.ours.decode(wanted).replace("END", "</s>")
    assert ids.count(end) == wanted.count(end) == 3
    [row] = encode_rows(chosen, said[:2], both.ours)
    assert row.ids.count(both.ours.special_ids()["<|both|>"]) == 1


def test_reasoning_that_a_template_drops_is_taught(layouts: dict[str, Both], tmp_path: Path) -> None:
    chosen, both = chat_template(THINKING, tmp_path), layouts["metaspace never"]
    question = Message("user", "Why?")
    for answer, wanted in {
        "<think>\nHm.\n</think>\nSo.": "Hm.\n</think>\nSo.</s>",
        "<think>Hm.</think>So.": "Hm.</think>So.</s>",
        "Hm.</think>So.": "Hm.</think>So.</s>",
        "So.": "So.</s>",
        "Also.": "Also.</s>",
    }.items():
        [row] = encode_rows(chosen, [question, Message("assistant", answer)], both.ours)
        taught = both.ours.decode([i for i, learns in zip(row.ids, row.learned, strict=True) if learns])
        assert taught == wanted


@pytest.fixture(scope="module")
def tokenizers(layouts: dict[str, Both], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    """Return a tokenizer of every kind and layout, the layouts with a first token and without."""
    found: dict[str, Tokenizer] = {
        "bpe": bpe.train(
            learnable(), vocab_size=400, sample_bytes=10**6, cache_dir=str(tmp_path_factory.mktemp("bpe"))
        ),
        "gpt2": gpt2.load(encoding="gpt2"),
        "bytes": ByteTokenizer(end_of_text=True),
        "char": char.train(learnable(), unknown=True, end_of_text=True),
        "word": word.train(learnable(), unknown=True, end_of_text=True),
    }
    for layout, both in layouts.items():
        state = {key: value for key, value in both.ours.state().items() if key != "kind"}
        for name, bos_id in {layout: None, f"{layout} with bos": both.ours.special_ids()["<s>"]}.items():
            found[name] = PretrainedTokenizer(**(state | {"bos_id": bos_id}))
    return found


def test_exported_styles_ask_with_the_same_ids(tokenizers: dict[str, Tokenizer], tmp_path: Path) -> None:
    """Check every style of conf/prompt on every tokenizer, for one turn and for many."""
    talks = [talk(n_turns, system=system) for n_turns in (1, 4) for system in (False, True)]
    for kind, tokenizer in tokenizers.items():
        write_tokenizer(tokenizer, tmp_path, context_length=10**6)
        theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
        for chosen in map(style, STYLES):
            theirs.chat_template = chosen.template if tokenizer.bos_id is None else "{{ bos_token }}" + chosen.template
            for messages in talks:
                asked = as_dicts(messages[:-1])
                wanted = theirs.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
                assert question_ids(chosen, asked, tokenizer) == list(wanted), kind
                [row] = encode_rows(chosen, messages, tokenizer)
                assert row.ids[: len(wanted)] == list(wanted), kind


def test_special_tokens_are_named_as_in_transformers(tmp_path: Path) -> None:
    """Check old folders with a special_tokens_map.json, and new ones without."""
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    older = {"bos_token": {"content": "<s>", "lstrip": False}, "eos_token": "</s>", "image_token": "<|both|>"}
    for settings, special_map in (
        ({}, older),
        ({"pad_token": "</s>", "audio_token": "<|left|>", "add_bos_token": True, "a_token": 3}, None),
        ({"mask_token": None, "cls_token": "<s>", "additional_special_tokens": ["<|left|>"]}, {"sep_token": "</s>"}),
        ({"extra_special_tokens": {"image_token": "<|both|>", "boi": "<|left|>"}, "added_tokens_decoder": {}}, older),
    ):
        folder = write_layout("byte-level", tmp_path, **settings)
        (folder / "special_tokens_map.json").unlink(missing_ok=True)
        if special_map is not None:
            (folder / "special_tokens_map.json").write_text(json.dumps(special_map), encoding="utf-8")
        found = read_chat_template(folder)
        assert found is not None
        assert found["special_tokens"] == transformers.AutoTokenizer.from_pretrained(folder).special_tokens_map
