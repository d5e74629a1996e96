"""A pretrained model's chat template is kept in the run, its checkpoints and the next run."""

import json
import shutil
from datetime import date, timedelta
from pathlib import Path

import pytest

from gptlab.commands import evaluate, export
from gptlab.commands.train import main as train
from gptlab.config import pretrained
from gptlab.config.build import build
from gptlab.config.compose import ConfigError, compose_config
from gptlab.config.pretrained import adopt
from gptlab.errors import UserError
from gptlab.prompts.protocol import Message
from gptlab.prompts.template import ChatTemplate
from gptlab.run import Run
from gptlab.weights.sources import Folder
from gptlab.weights.sources import TrainedRun as Weights
from gptlab.workflows.chat import start_chat
from gptlab.workflows.export import find_chat
from tests.conftest import TrainedRun, write_text
from tests.support.template_folder import CHATML, write_model

SHORT = (
    "trainer.max_steps=2",
    "trainer.val_check_interval=1",
    "schedule.warmup_steps=0",
    "callbacks=none",
    "logger=none",
)
OWN = ("model=pretrained", "tokenizer=pretrained", "prompt=pretrained", "head=instruction", "sampling.max_new_tokens=4")


@pytest.fixture
def tasks(tmp_path: Path) -> list[str]:
    records = [{"prompt": f"Say {i}.", "response": f"{i}"} for i in range(60)]
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps(records), encoding="utf-8")
    return ["data=chat", f"data.path={path}", "data.reader.format=columns", "data.packing=true", "data.batch_size=2"]


def chatml(run: Run) -> str:
    return "".join(piece.text for piece in build(run.cfg.prompt, "prompt").question([Message("user", "Hi")]))


def test_a_run_carries_the_template_of_its_weights(
    tasks: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, first, second = write_model(tmp_path / "model", CHATML), tmp_path / "first", tmp_path / "second"
    watched = ["callbacks=default", "callbacks.samples.prompt=Who?"]
    train([*SHORT, *OWN, *tasks, *watched, "weights=hf", f"weights.path={folder}", f"output_dir={first}"])
    shutil.rmtree(folder)
    train([f"resume={first}", "trainer.max_steps=3"])
    assert json.loads((first / "summary.json").read_text(encoding="utf-8"))["steps"] == 3
    assert "> Who?\n" in (first / "train.log").read_text(encoding="utf-8")
    begin = "<|im_start|>system\nYou help.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert chatml(Run.open(first)) == begin
    train([*SHORT, *OWN, *tasks, "weights=run", f"weights.run={first}", "callbacks=default", f"output_dir={second}"])
    assert chatml(Run.open(second)) == begin
    text = write_text(tmp_path / "toy.txt", 600)
    evaluate.main([f"run={second}", "data=text", f"data.path={text}", "n_questions=2"])
    assert "perplexity" in capsys.readouterr().out


def test_a_folder_is_opened_with_its_template_or_as_plain(tmp_path: Path) -> None:
    assert chatml(Run.open(write_model(tmp_path / "with", CHATML))).endswith("<|im_start|>assistant\n")
    assert chatml(Run.open(write_model(tmp_path / "without", None))) == "Hi\n"


def test_a_run_resumes_the_next_day(tasks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check a template that writes today's date: its rows keep that of the day on which the run began."""
    dated = "{{ strftime_now('%d.%m.%Y') }}\n{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"
    folder, run = write_model(tmp_path / "model", dated), tmp_path / "run"
    train([*SHORT, *OWN, *tasks, "weights=hf", f"weights.path={folder}", f"output_dir={run}", "callbacks=default"])
    began = date.today()

    class NextDay(date):
        @classmethod
        def today(cls) -> "date":  # type: ignore[override]
            return began + timedelta(days=1)

    monkeypatch.setattr(pretrained, "date", NextDay)
    train([f"resume={run}", "trainer.max_steps=3"])
    opened = Run.open(run)
    assert json.loads((run / "summary.json").read_text(encoding="utf-8"))["steps"] == 3
    assert opened.cfg.prompt.date == began.isoformat()
    fresh = Run.compose(compose_config("train", [*OWN, *tasks, "weights=run", f"weights.run={run}"]))
    assert fresh.cfg.prompt.date == NextDay.today().isoformat()


def test_variables_of_a_template_are_the_users(tasks: list[str], tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", "{{ mood }}{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}")
    overrides = [*OWN, *tasks, "weights=hf", f"weights.path={folder}", "+prompt.variables.mood=glad"]
    run = Run.compose(compose_config("train", overrides))
    assert run.cfg.prompt.date is None
    assert run.tokenizer.decode(run.chat_ids([{"role": "user", "content": "Hi"}])) == "gladHi<|im_end|>"
    session = start_chat(
        run, compose_config("chat", ["run=x", "prompt=pretrained", "+prompt.variables.mood=sad"]).prompt, system=None
    )
    assert run.tokenizer.decode(session.encode([Message("user", "Hi")])) == "sadHi<|im_end|>"
    chat = find_chat(run)
    assert chat is not None
    theirs = ChatTemplate(name="x", template=chat.template, special_tokens={}, date=None, variables={})
    assert theirs.question([Message("user", "Hi")])[0].text == "gladHi<|im_end|>"
    sad = ChatTemplate(name="x", template=chat.template, special_tokens={}, date=None, variables={"mood": "sad"})
    assert sad.question([Message("user", "Hi")])[0].text == "sadHi<|im_end|>"


def test_an_exported_model_is_asked_with_the_same_ids(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="the parity tests need the dev extra")
    named = (
        "{{ bos_token }}{{ pad_token }}{% for m in messages %}{{ m.role }} {{ m.content }}{{ eos_token }}{% endfor %}"
    )
    folder = write_model(tmp_path / "model", named)
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    for bos, pad in ((None, "<|endoftext|>"), ("<|im_start|>", None)):
        (folder / "tokenizer_config.json").write_text(
            json.dumps(config | {"bos_token": bos, "pad_token": pad}), encoding="utf-8"
        )
        export.main([f"run={folder}", f"to={tmp_path / f'exported {bos is None}'}"])
        theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / f"exported {bos is None}")
        messages = [{"role": "user", "content": "Who?"}]
        wanted = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        assert Run.open(folder).chat_ids(messages) == list(wanted)
        assert wanted[0] == (0 if bos is None else 1)


def test_weights_without_a_template_are_reported(tasks: list[str], tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", None)
    overrides = [*OWN, *tasks, "weights=hf", f"weights.path={folder}", f"output_dir={tmp_path / 'run'}"]
    with pytest.raises(ValueError, match=r"these have none: choose prompt=alpaca, chatml, phi3 or plain"):
        Run.compose(compose_config("train", overrides))
    with pytest.raises(ConfigError, match="prompt=pretrained needs pretrained weights, but weights=scratch"):
        compose_config("train", ["prompt=pretrained"])


def test_without_a_named_style_a_chat_model_keeps_its_template(
    tasks: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says which style is used, and warns of one that the weights were not trained on."""
    told = {}
    for template, named in ((CHATML, ""), (CHATML, "prompt=phi3"), (None, "")):
        folder = write_model(tmp_path / f"model_{len(told)}", template)
        caplog.clear()
        words = ["head=instruction", *tasks, "weights=hf", f"weights.path={folder}", *([named] if named else [])]
        with caplog.at_level("INFO"):
            cfg = adopt(compose_config("train", words), Folder(path=str(folder), revision=None))
        told[cfg.prompt.name] = [(r.levelname, r.message) for r in caplog.records if "written as" in r.message]
    own, other, none = told["pretrained"], told["phi3"], told["alpaca"]
    assert own == [("INFO", "conversations are written as the weights' own prompt style has it (pretrained)")]
    assert other == [
        (
            "WARNING",
            "conversations are written as prompt=phi3, but the weights come with a style of their own (pretrained): "
            "choose prompt=pretrained to keep to it",
        )
    ]
    assert none == [
        ("INFO", "conversations are written as prompt=alpaca; the weights have no prompt style of their own")
    ]


def test_a_text_has_no_prompt_style_to_tell_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, text = write_model(tmp_path / "model", CHATML), write_text(tmp_path / "toy.txt", 600)
    words = ["weights=hf", f"weights.path={folder}", "data=text", f"data.path={text}", "prompt=phi3"]
    adopt(compose_config("train", words), Folder(path=str(folder), revision=None))
    assert "written as" not in caplog.text


def test_weights_of_a_run_on_text_have_no_prompt_style_but_a_template(
    tasks: list[str], tiny_run: TrainedRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = ["head=instruction", *tasks, "weights=run", f"weights.run={tiny_run.folder}", "prompt=chatml"]
    with caplog.at_level("INFO"):
        adopt(compose_config("train", words), Weights(run=str(tiny_run.folder)))
    assert "the weights have no prompt style of their own" in caplog.text
    folder, continued = write_model(tmp_path / "model", CHATML), tmp_path / "continued"
    text = ["data=text", f"data.path={write_text(tmp_path / 'toy.txt', 600)}", f"output_dir={continued}"]
    train([*SHORT, "weights=hf", f"weights.path={folder}", *text, "callbacks=default"])
    prompt = Weights(run=str(continued)).prompt
    assert prompt is not None
    assert prompt["template"] == CHATML


def test_chat_cannot_take_the_style_of_weights_that_it_does_not_start_from() -> None:
    with pytest.raises(UserError, match=r"prompt=auto is the style of the weights that a run starts from"):
        build(compose_config("chat", ["run=a", "prompt=auto"]).prompt, "prompt")
