"""Published chat templates on tokenizers of every layout: the ids and spans of the transformers library.

    pip install --no-deps trl        # 72 templates, which are read and never imported
    GPTLAB_TOKENIZERS=FOLDER pytest -m long -s tests/prompts/test_published.py

FOLDER may hold folders of published tokenizers; their own templates are tried too. The counts are printed.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from jinja2 import TemplateError

from gptlab.errors import UserError
from gptlab.prompts.encoding import Encoded, encode_rows, question_ids
from gptlab.prompts.protocol import Message, Turn
from gptlab.prompts.template import ChatTemplate
from gptlab.tokenizer.pretrained import read_tokenizer
from gptlab.weights.chat_template import read_prompt
from tests.support.chat_templates import ADD, as_dicts, talk
from tests.support.tokenizers import LAYOUTS, write_layout

transformers = pytest.importorskip("transformers", reason="the parity tests need the dev extra")

pytestmark = pytest.mark.long


class Published:
    """A folder with a tokenizer, as gptlab opens it and as transformers does."""

    def __init__(self, name: str, folder: Path) -> None:
        found = read_tokenizer(folder)
        assert found is not None
        self.name, self.folder, self.ours = name, folder, found
        self.theirs = transformers.AutoTokenizer.from_pretrained(folder)
        self.own = (read_prompt(folder) or {}).get("template")

    def style(self, template: str) -> ChatTemplate:
        tokens = {key: value for key, value in self.theirs.special_tokens_map.items() if isinstance(value, str)}
        return ChatTemplate(name="published", template=template, special_tokens=tokens, date=None, variables={})

    def asked(self, template: str, messages: Sequence[Any], tools: list[Any] | None) -> list[int] | str:
        """Return the ids that transformers asks with, or why the template refuses."""
        options = {"chat_template": template, "tools": tools, "add_generation_prompt": True, "return_dict": False}
        try:
            return list(self.theirs.apply_chat_template(messages, **options))
        except (TemplateError, TypeError) as error:
            return f"{type(error).__name__}: {error}"

    def taught(self, template: str, messages: Sequence[Any]) -> tuple[list[int], list[bool]]:
        found = self.theirs.apply_chat_template(
            messages, chat_template=template, return_dict=True, return_assistant_tokens_mask=True
        )
        return list(found["input_ids"]), [bool(mark) for mark in found["assistant_masks"]]


def templates() -> dict[str, str]:
    spec = find_spec("trl")
    if spec is None or spec.origin is None:
        pytest.skip("trl is not installed: pip install --no-deps trl")
    folder = Path(spec.origin).parent / "chat_templates"
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.jinja"))}


def tokenizers(folder: Path) -> Iterator[Published]:
    for layout in LAYOUTS:
        yield Published(layout, write_layout(layout, folder / layout))
    if more := os.environ.get("GPTLAB_TOKENIZERS"):
        for path in sorted(Path(more).glob("*/tokenizer.json")):
            yield Published(path.parent.name, path.parent)


def ask(style: ChatTemplate, messages: Sequence[Turn], tokenizer: Any, tools: list[Any] | None) -> list[int] | str:
    try:
        return question_ids(style, messages, tokenizer, tools=tools)
    except UserError as error:
        return str(error)


def test_published_templates_ask_and_teach_the_ids_of_transformers(tmp_path: Path) -> None:
    counts, refusals, wrong = Counter[str](), Counter[str](), []
    for tokenizer in tokenizers(tmp_path):
        own = {} if tokenizer.own is None else {"its own": tokenizer.own}
        for name, template in (templates() | own).items():
            style, here = tokenizer.style(template), f"{name} on {tokenizer.name}"
            for n_turns, system, tools in [
                (n, s, t) for n in (1, 2, 3, 4) for s in (False, True) for t in (None, [ADD])
            ]:
                messages = as_dicts(talk(n_turns, system=system)[:-1])
                wanted = tokenizer.asked(template, messages, tools)
                found = ask(style, messages, tokenizer.ours, tools)
                if isinstance(wanted, str) and isinstance(found, str):
                    counts["questions that both refuse"] += 1
                    refusals[f"{name}: {found}"] += 1
                else:
                    counts["questions with equal ids"] += wanted == found
                    wrong += [f"{here}, {n_turns} turns, {system=}"] if wanted != found else []
            for n_turns in (1, 2, 4):
                wrong += [f"{here}: {fault}" for fault in teach(tokenizer, style, n_turns, counts, refusals, name)]
    print(*(f"{count:7,} {what}" for what, count in sorted(counts.items())), sep="\n")
    print("refused:", *(f"{count:7,} {why}" for why, count in sorted(refusals.items())), sep="\n")
    assert not wrong, f"{len(wrong)} differ: {wrong[:20]}"


def teach(
    tokenizer: Published, style: ChatTemplate, n_turns: int, counts: Counter[str], refusals: Counter[str], name: str
) -> Iterator[str]:
    """Yield what is wrong with the rows of a conversation."""
    messages = talk(n_turns, system=False)
    try:
        rows = encode_rows(style, messages, tokenizer.ours)
    except UserError as error:
        counts["conversations refused in training"] += 1
        refusals[f"{name}, in training: {error}"] += 1
        return
    if n_turns > 1:
        counts[f"conversations in {'one row' if len(rows) == 1 else 'a row per answer'}"] += 1
    written: Any = as_dicts(messages)
    if style._takes_parts:
        written = [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in written]
    ids, marked = tokenizer.taught(style.template, written)
    if any(marked):
        equal = len(rows) == 1 and (rows[0].ids, rows[0].learned) == (ids, marked)
        counts["marked rows equal to the mask"] += equal
        if not equal:
            yield f"{n_turns} turns differ from the mask"
        return
    answers = [i for i, message in enumerate(messages) if message.role == "assistant"]
    for i, row in zip(answers, rows * n_turns if len(rows) == 1 else rows, strict=True):
        asked = question_ids(style, messages[:i], tokenizer.ours)
        if row.ids[: len(asked)] == asked and row.learned[len(asked)]:
            counts["answers that follow the ids of their question"] += 1
        elif _spans(tokenizer, row, asked):
            counts["answers whose first token begins in the question"] += 1
        else:
            yield f"answer {i} of {n_turns} turns does not follow what is asked"
        if not _says(tokenizer, [i for i, learns in zip(row.ids, row.learned, strict=True) if learns], messages[i]):
            yield f"answer {i} of {n_turns} turns lost words"


def _spans(tokenizer: Published, row: Encoded, asked: Sequence[int]) -> bool:
    """Return whether a token of the question's last character and the answer's first keeps a row from a clean cut.

    An answer alone would begin with a blank then, so the token belongs to the answer.
    """
    first = row.learned.index(True)
    encode = tokenizer.ours.encode
    return encode("\na") != encode("\n") + encode("a") and row.ids[:first] == list(asked[:first]) and first < len(asked)


def _says(tokenizer: Published, ids: Sequence[int], answer: Message) -> bool:
    """Return whether learned ids hold an answer's words, as the tokenizer gives them back."""
    spoken = tokenizer.ours.decode(tokenizer.ours.encode(answer.content))
    return "".join(spoken.split()) in "".join(tokenizer.ours.decode(ids).split())
