"""Each kind of end stops a model, here and, exported, in transformers, after the same text."""

import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from gptlab.commands import export, generate
from gptlab.commands.train import main as train
from gptlab.run import Run
from gptlab.tokenizer.folder import read_settings
from gptlab.tokenizer.pretrained import read_tokenizer
from gptlab.workflows.chat import start_chat
from tests.conftest import TINY
from tests.support.chain_model import write_chain
from tests.support.template_folder import CHATML, write_tokenizer
from tests.support.tokenizers import write_layout

END_OF_TEXT, END_OF_TURN = 0, 2  # the tokenizer's ids of <|endoftext|> and <|im_end|>
ANSWER = "You"
KINDS: dict[str, dict[str, Any]] = {  # what says that <|im_end|> ends a text
    "the tokenizer's eos_token": {"eos_token": "<|im_end|>", "template": None, "generation": None},
    "the list in generation_config.json": {"eos_token": "<|endoftext|>", "template": None, "generation": [0, 2]},
    "the template's end of turn": {"eos_token": "<|endoftext|>", "template": CHATML, "generation": None},
}
MakeFolder = Callable[..., Path]


@pytest.fixture(scope="module")
def transformers() -> ModuleType:
    return pytest.importorskip("transformers", reason="the parity tests need the dev extra")


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Write a model that writes ANSWER and <|im_end|> after any text with a line break at its end."""

    def make(*, eos_token: str, template: str | None, generation: list[int] | None, **more: Any) -> Path:
        folder = write_tokenizer(tmp_path / "model", template)
        settings = read_settings(folder / "tokenizer_config.json") | {"eos_token": eos_token}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
        if generation or more:
            content = {"eos_token_id": generation, **more}
            (folder / "generation_config.json").write_text(json.dumps(content), encoding="utf-8")
        tokenizer = read_tokenizer(folder)
        assert tokenizer is not None
        [line_break] = tokenizer.encode("\n")
        chain = [line_break, *tokenizer.encode(ANSWER), END_OF_TURN, *tokenizer.encode(" and so on")]
        write_chain(folder, vocab_size=tokenizer.vocab_size + 20, chain=list(dict.fromkeys(chain)))
        return folder

    return make


def their_answer(transformers: ModuleType, folder: Path, ids: list[int], *, n_most: int = 12) -> list[int]:
    """The new ids that transformers writes with the folder's own settings, greedily."""
    with warnings.catch_warnings(action="error"):
        model = transformers.AutoModelForCausalLM.from_pretrained(folder)
        prompt = torch.tensor([ids])
        written = model.generate(prompt, attention_mask=prompt.ge(0), do_sample=False, max_new_tokens=n_most)
    return written[0, len(ids) :].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_end_stops_a_published_model(
    kind: str, make_folder: MakeFolder, transformers: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_folder(**KINDS[kind])
    run, prompt = Run.open(folder), "who\n"
    greedy: dict[str, Any] = {"temperature": 0.0, "max_new_tokens": 8}
    assert run.generate(prompt, **greedy) == ANSWER
    assert run.generate_many(prompt, 2, **greedy) == [ANSWER] * 2
    prompts = [run.tokenizer.encode(text) for text in (prompt, "and who are you\n")]
    assert run.text_generator.generate_many(prompts, batch_tokens=100, changes=greedy) == [(ANSWER, False)] * 2
    generate.main([f"run={folder}", f"prompt={prompt}", "sampling=greedy"])
    assert capsys.readouterr().out == f"{prompt}{ANSWER}\n"
    export.main([f"run={folder}", f"to={tmp_path / 'exported'}"])
    ids = [*run.tokenizer.encode(ANSWER), END_OF_TURN]
    assert their_answer(transformers, tmp_path / "exported", prompts[0]) == ids
    assert Run.open(tmp_path / "exported").generate(prompt, **greedy) == ANSWER


def test_an_assistant_stops_at_its_end_of_turn_in_both(
    make_folder: MakeFolder,
    transformers: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The end of a turn is the style's, a special token, and not the tokenizer's own end of text."""
    folder = make_folder(eos_token="<|endoftext|>", template=None, generation=None)
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(f'{{"prompt": "who is {i}", "response": "You"}}\n' for i in range(40)), encoding="utf-8")
    own = [word for word in TINY if not word.startswith(("tokenizer", "model", "optim", "data", "sampling"))]
    data = ["head=instruction", "data=chat", f"data.path={rows}", "data.reader.format=columns", "prompt=chatml"]
    base = ["weights=hf", f"weights.path={folder}", "model=pretrained", "tokenizer=pretrained"]
    steps = ["optim=adamw", "optim.lr=1e-9", "trainer.max_steps=1", "sampling=greedy", "sampling.max_new_tokens=9"]
    train([*own, *data, *base, *steps, "logger=none", f"output_dir={tmp_path / 'run'}"])
    export.main([f"run={tmp_path / 'run'}", f"to={tmp_path / 'exported'}"])
    answers = []
    for path in (tmp_path / "run", tmp_path / "exported"):
        run = Run.open(path)
        talk = start_chat(run, None, system=None)
        talk.sampling = {"temperature": 0.0, "max_new_tokens": 9}
        answers.append("".join(talk.ask("who")))
        assert run.text_generator.end_ids == (END_OF_TEXT, END_OF_TURN)
    assert answers == [ANSWER] * 2
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "exported")
    question = [{"role": "user", "content": "who"}]
    ids = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_dict=False)
    assert tokenizer.decode(their_answer(transformers, tmp_path / "exported", ids)) == f"{ANSWER}<|im_end|>"
    card = (tmp_path / "exported" / "README.md").read_text(encoding="utf-8")
    capsys.readouterr()
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings(action="error"):
        exec(card.split("```python\n")[1].split("```")[0], {})
    assert capsys.readouterr().out == f"{ANSWER}\n"


def test_ids_beyond_the_tokenizers_are_never_drawn(make_folder: MakeFolder) -> None:
    """The vocabulary is padded by 20 ids."""
    run = Run.open(make_folder(**KINDS["the tokenizer's eos_token"]))
    assert run.model.vocab_size == len(run.tokenizer.unused_ids) + 300
    texts = run.generate_many("who", 20, temperature=50.0, top_p=1.0, max_new_tokens=40)
    assert not [text for text in texts if "unused" in text]


def test_a_folders_own_sampling_is_the_default_and_what_is_typed_counts_more(
    make_folder: MakeFolder, transformers: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {"do_sample": True, "temperature": 0.6, "top_k": 5, "top_p": 0.9, "max_new_tokens": 7}
    folder = make_folder(**{**KINDS["the list in generation_config.json"], **own})
    run = Run.open(folder)
    sampling = run.text_generator.sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p, sampling.max_new_tokens) == (0.6, 5, 0.9, 7)

    def said(*words: str) -> tuple[str, str]:
        generate.main([f"run={folder}", "prompt=many words", "seed=3", *words])
        output = capsys.readouterr()
        return output.out, output.err

    text, notice = said()
    assert text == "many words" + run.generate("many words", seed=3) + "\n"
    assert "temperature=0.6, top_p=0.9" in notice
    text, notice = said("sampling.temperature=30", "sampling.max_new_tokens=20")
    assert text == "many words" + run.generate("many words", seed=3, temperature=30.0, max_new_tokens=20) + "\n"
    assert "temperature" not in notice
    assert said("sampling=greedy", "sampling.max_new_tokens=3")[1] == ""
    capsys.readouterr()
    logging.getLogger("transformers").propagate = True
    export.main([f"run={folder}", f"to={tmp_path / 'exported'}"])
    theirs = transformers.GenerationConfig.from_pretrained(tmp_path / "exported").to_diff_dict()
    assert {name: theirs[name] for name in own} == own
    assert theirs["eos_token_id"] == [END_OF_TEXT, END_OF_TURN]


TURNS = """\
{% for message in messages %}<|start|>{{ message['role'] }}
{{ message['content'] }}</s>
{% endfor %}{% if add_generation_prompt %}<|start|>assistant
{% endif %}"""


@pytest.mark.parametrize("layout", ["byte-level", "prepend", "metaspace first"])
def test_an_exported_chat_is_answered_alike_in_both_on_every_layout(
    layout: str, transformers: ModuleType, tmp_path: Path
) -> None:
    """The end of a turn is the template's; the tokenizer's own end of text never comes."""
    folder = write_layout(layout, tmp_path / "model", chat_template=TURNS, eos_token="<|left|>")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    question, answer = (
        {"role": role, "content": text} for role, text in (("user", "Why?"), ("assistant", "So it was"))
    )
    asked = tokenizer.apply_chat_template([question], add_generation_prompt=True, return_dict=False)
    whole = tokenizer.apply_chat_template([question, answer], return_dict=False)
    end = tokenizer.convert_tokens_to_ids("</s>")
    ids = whole[len(asked) : whole.index(end, len(asked)) + 1]
    write_chain(folder, vocab_size=len(tokenizer) + 30, chain=[asked[-1], *ids])
    export.main([f"run={folder}", f"to={tmp_path / 'exported'}"])
    for place in (folder, tmp_path / "exported"):
        talk = start_chat(Run.open(place), None, system=None)
        talk.sampling = {"temperature": 0.0, "max_new_tokens": 12}
        assert "".join(talk.ask("Why?")) == "So it was"
    assert their_answer(transformers, tmp_path / "exported", asked) == ids


def test_an_end_of_turn_that_is_plain_text_is_followed_by_the_end_of_text(
    transformers: ModuleType, tmp_path: Path
) -> None:
    """gptlab stops at the text, transformers at the token after it."""
    colours = {"grass": "green", "snow": "white", "coal": "black"}
    rows = [{"prompt": f"{thing} {i}", "response": colour} for i in range(20) for thing, colour in colours.items()]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    own = [word for word in TINY if not word.startswith(("tokenizer", "sampling", "model.context_length"))]
    data = ["head=instruction", "data=chat", f"data.path={file}", "data.reader.format=columns", "prompt=chatml"]
    more = ["tokenizer=bytes", "model.context_length=96", "optim=adamw", "optim.lr=1e-2", "trainer.max_steps=100"]
    train([*own, *data, *more, "logger=none", f"output_dir={tmp_path / 'run'}"])
    export.main([f"run={tmp_path / 'run'}", f"to={tmp_path / 'exported'}"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "exported")
    question = [{"role": "user", "content": "snow 3"}]
    ids = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_dict=False)
    written = their_answer(transformers, tmp_path / "exported", ids, n_most=40)
    for place in (tmp_path / "run", tmp_path / "exported"):
        talk = start_chat(Run.open(place), None, system=None)
        talk.sampling = {"temperature": 0.0, "max_new_tokens": 40}
        answer = "".join(talk.ask("snow 3"))
        assert tokenizer.decode(written) == f"{answer}<|im_end|><|endoftext|>"
