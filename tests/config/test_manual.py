"""`--help` explains every key and choice, and other programs' words get an answer."""

import re

import pytest

from gptlab.commands.cli import VERBS
from gptlab.commands.cli import main as gptlab
from gptlab.commands.train import main as train
from gptlab.config.compose import ConfigError, compose_config
from gptlab.config.manual.pages import train_page, verb_page
from gptlab.config.manual.yaml_pages import keys_of, read_page
from gptlab.storage.places import conf_dir

GROUPS = sorted(path.name for path in conf_dir().iterdir() if path.is_dir() and path.name not in ("hydra", "local"))


def words_of(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("width", [60, 80, 100])
def test_every_key_and_choice_is_explained_in_whole_words(verb: str, width: int) -> None:
    page = train_page([], width=width) if verb == "train" else verb_page(verb, VERBS[verb], [], width=width)
    prose = [line for line in page.splitlines() if width >= 80 or not re.match(r"  (python|gptlab) ", line)]
    assert all(len(line) <= width or " " not in line.strip() for line in prose)
    shown = words_of(page)
    source = read_page(conf_dir() / f"{verb}.yaml")
    for key in source.keys:
        assert f"{key.name} " in shown
        assert words_of(key.meaning) in shown, f"the meaning of {key.name} is cut"
    for choice in source.choices:
        if verb == "data":
            continue  # its groups are on train's page, which it names
        for path in (conf_dir() / choice.group).glob("*.yaml"):
            assert words_of(f"{path.stem} {read_page(path).summary}") in shown
        if verb != "train" and choice.option != "null":
            keys = keys_of(conf_dir() / choice.group / f"{choice.option}.yaml").values()
            assert all(words_of(f"{choice.group}.{key.name} {key.meaning}") in shown for key in keys)


@pytest.mark.parametrize("group", [group for group in GROUPS if group not in ("data",)] + ["data"])
def test_a_choice_beside_help_has_its_keys_explained(group: str) -> None:
    for path in sorted((conf_dir() / group).glob("*.yaml")):
        shown = words_of(train_page([f"{group}={path.stem}"], width=80))
        for key in keys_of(path).values():
            assert words_of(f"{group}.{key.name} {key.meaning}") in shown


def test_nested_choices_are_explained_with_their_choice() -> None:
    assert "data.reader.text_field" in verb_page("evaluate", VERBS["evaluate"], ["data=csv"], width=80)


def test_help_and_versions_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--version"], ["version"]):
        assert gptlab(words) == 0
        assert re.fullmatch(r"gptlab \S+ \(torch \S+, lightning \S+, Python \S+\)\n", capsys.readouterr().out)
    train(["--version"])
    assert capsys.readouterr().out.startswith("gptlab ")
    assert gptlab(["help", "generate"]) == gptlab(["generate", "prompt=x", "-h"]) == 0
    first, second = capsys.readouterr().out.split("gptlab generate: ")[1:]
    assert first == second
    assert gptlab(["evalute"]) == 2
    assert "(did you mean evaluate?)" in capsys.readouterr().err


ANSWERS = {
    "lr=0.1": "lr is not a key: write optim.lr=0.1",
    "epochs=3": "write trainer.max_epochs=3",
    "batch_size=8": "write data.batch_size=8",
    "learning_rate=1e-3": "write optim.lr=1e-3",
    "dropout=0.1": "write model.drop_rate=0.1",
    "trainer.gpus=2": "write trainer.devices=2",
    "wandb=true": "write logger=wandb",
    "optimizer=adamw": "write optim=adamw",
    "--max_steps 10": "'--max_steps 10' cannot be read: keys have no dashes: write trainer.max_steps=10",
    "--seed=5": "write seed=5",
    "-lr 0.1": "write optim.lr=0.1",
    "seed 5": "'seed 5' cannot be read: write seed=5",
    "optim.lr = 0.1": "leave out the blanks: write optim.lr=0.1",
    "optim.lr= 0.1": "leave out the blanks: write optim.lr=0.1",
    "my.txt": "such as data=text data.path=my.txt",
    "data=my.txt": "there is no such configuration: write data=text data.path=my.txt",
    "data=talk/my.tsv.gz": "write data=csv data.path=talk/my.tsv.gz",
    "data=my.jsonl": "data=chat or data=preferences, with data.path=my.jsonl",
    "data.path=a,b": "a run takes one value: -m trains a run for each, and data.path='[a,b]' is a list",
    "optim.lr=1,2": "optim.lr=1,2: a run takes one value: -m trains a run for each",
    "model=tiny,mini": "model=tiny,mini: a run takes one value: -m trains a run for each",
    "data.reader=jsonl": "data.reader is 'jsonl': choose a part with data/reader=NAME; there are chatterbot",
    "data/reader=jsonl": "a reader takes a file's format from its ending",
    "model=gpt2": "write model=gpt2_small for its architecture, weights=gpt2 for its weights too",
    "model=ORG/NAME": "weights=hf weights.path=ORG/NAME",
    "optimizer=adam": "write optim=torch optim.name=Adam",
    "trainer.epochs=3": "write trainer.max_epochs=3",
    "optim=adam": "write optim=torch optim.name=Adam",
    "head=dpo": "write head=preference",
    "seed=abc": "seed is 'abc': it must be a whole number",
    "+optim.lr=0.1": "+optim.lr=0.1: optim.lr exists already: leave out the +",
}


@pytest.mark.parametrize("typed", ANSWERS)
def test_another_program_s_words_are_answered(typed: str) -> None:
    with pytest.raises(ConfigError) as refused:
        compose_config("train", typed.split())
    (sentence,) = str(refused.value).splitlines()
    assert ANSWERS[typed] in sentence


@pytest.mark.parametrize(
    ("root", "typed", "remedy"),
    [
        ("generate", "outputs/gpt", "write key=value, such as run=outputs/gpt"),
        ("generate", "temperature=0", "write sampling.temperature=0"),
        ("generate", "--prompt hi", "write prompt=hi"),
        ("generate", "--precision int8", "write precision=int8"),  # its own key, not trainer.precision
        ("evaluate", "output json", "write output=json"),
        ("evaluate", "path=my.txt", "write data=text data.path=my.txt"),
        ("evaluate", "data=my.txt", "write data=text data.path=my.txt"),
        ("classify", "path=my.txt", "write file=my.txt"),
        ("export", "out=folder", "write to=folder"),
    ],
)
def test_so_are_they_by_the_other_commands(root: str, typed: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as refused:
        compose_config(root, ["run=x", *typed.split()])
    assert remedy in str(refused.value)


def test_hydra_s_own_flags_stay_hydra_s(capsys: pytest.CaptureFixture[str]) -> None:
    train(["--cfg", "job", "-p", "optim", "optim.lr=0.5"])
    assert "lr: 0.5" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        train(["--cfg", "job", "--lr", "3"])
    assert "write optim.lr=3" in capsys.readouterr().err
