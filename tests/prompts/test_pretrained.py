"""A pretrained model's chat template is kept in the run, its checkpoints and the next run."""

import json
import shutil
from pathlib import Path

import pytest

from gptlab.commands import evaluate
from gptlab.commands.train import main as train
from gptlab.config.build import build
from gptlab.config.compose import ConfigError, compose_config
from gptlab.prompts.protocol import Message
from gptlab.run import Run
from tests.conftest import write_text
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
    return "".join(p.text for p in build(run.cfg.prompt, "prompt").pieces([Message("user", "Hi")], answer_next=True))


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


def test_weights_without_a_template_are_reported(tasks: list[str], tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", None)
    overrides = [*OWN, *tasks, "weights=hf", f"weights.path={folder}", f"output_dir={tmp_path / 'run'}"]
    with pytest.raises(ValueError, match=r"these have none: choose prompt=alpaca, chatml, phi3 or plain"):
        Run.compose(compose_config("train", overrides))
    with pytest.raises(ConfigError, match="prompt=pretrained needs pretrained weights, but weights=scratch"):
        compose_config("train", ["prompt=pretrained"])
