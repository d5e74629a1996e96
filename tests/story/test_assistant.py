"""The story of an assistant: trained, compared with reference answers, and judged."""

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from gptlab.commands.cli import main as gptlab
from gptlab.commands.train import main as train
from gptlab.config.build import build
from gptlab.prompts.encoding import question_ids
from gptlab.prompts.protocol import Message
from gptlab.run import Run
from gptlab.workflows.chat import start_chat
from tests.conftest import TINY


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train an assistant that names the colours of things."""
    folder, colours = tmp_path_factory.mktemp("assistant"), {"grass": "green", "snow": "white", "coal": "black"}
    things = [(f"{thing} {i}", colour) for i in range(30) for thing, colour in colours.items()]
    rows = [{"prompt": f"colour of {thing}", "response": colour} for thing, colour in things]
    file = folder / "colours.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    words = [word for word in TINY if not word.startswith(("tokenizer", "sampling"))]
    data = ["head=instruction", "data=chat", f"data.path={file}", "data.reader.format=columns", "prompt=plain"]
    more = ["tokenizer=bytes", "optim=adamw", "optim.lr=1e-2", "trainer.max_steps=120"]
    train([*words, *data, *more, "sampling.max_new_tokens=8", f"output_dir={folder / 'run'}"])
    return folder / "run"


def evaluated(run: Path, capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    capsys.readouterr()
    gptlab(["evaluate", f"run={run}", "split=test", "sampling.max_new_tokens=8", "output=json", *words])
    return json.loads(capsys.readouterr().out)


def test_its_answers_are_compared_with_the_references(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))["test"]
    report = evaluated(run, capsys)
    for name in ("loss", "perplexity", "accuracy"):
        assert report["metrics"][name]["value"] == pytest.approx(summary[f"test/{name}"], rel=1e-5)
    answers = [json.loads(line) for line in (run / "evaluation" / "test.jsonl").read_text("utf-8").splitlines()]
    assert len(answers) == report["rows"] == 9
    exact = [answer["answer"] == answer["reference"] for answer in answers]
    assert report["answers"]["exact_match"]["value"] == pytest.approx(sum(exact) / len(exact))
    assert sum(exact) > 6  # it has learned something


def test_a_sample_of_the_questions_can_be_measured(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluated(run, capsys, "n_answers=2")["answers"]["rouge_l"]["n"] == 2
    assert "answers" not in evaluated(run, capsys, "n_answers=0")


def test_answers_cut_at_their_limit_are_counted(
    run: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    evaluated(run, capsys, "n_answers=3", "sampling.max_new_tokens=2")
    assert caplog.messages == ["3 of 3 answers were cut at sampling.max_new_tokens=2, and are compared as they are"]
    lines = (run / "evaluation" / "test.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["cut"] for line in lines] == [True] * 3


def test_a_judge_that_cannot_be_reached_loses_no_answer(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gptlab.evaluation.judge.RETRY_SECONDS", 0.0)
    report = evaluated(run, capsys, "n_answers=2", "judge=openai", "judge.model=m", "judge.url=http://127.0.0.1:9/v1")
    assert report["answers"]["exact_match"]["n"] == 2
    assert "judge" not in report["answers"]
    assert "cannot be reached" in caplog.text
    assert "0 of 2 answers were judged" in caplog.text


def test_the_whole_data_is_a_split_too(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluated(run, capsys, "split=all", "n_answers=0")["rows"] == 90


def test_an_export_uses_the_prompt_format_of_training(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gptlab(["export", f"run={run}", f"to={tmp_path / 'model'}"])
    assert f"gptlab chat run={tmp_path / 'model'}" in capsys.readouterr().out
    opened, exported = Run.open(run), Run.open(tmp_path / "model")
    question = [Message("user", "colour of snow 3")]
    wanted = question_ids(build(opened.cfg.prompt, "prompt"), question, opened.tokenizer)
    theirs = AutoTokenizer.from_pretrained(tmp_path / "model")
    asked = [{"role": message.role, "content": message.content} for message in question]
    assert theirs.apply_chat_template(asked, add_generation_prompt=True, return_dict=False) == wanted
    answers = []
    for each in (opened, exported):
        talk = start_chat(each, None, system=None)
        talk.sampling = {"temperature": 0.0, "max_new_tokens": 8}
        answers.append("".join(talk.ask("colour of snow 3")))
    assert answers[0] == answers[1] == "white"
