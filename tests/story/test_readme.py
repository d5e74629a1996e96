"""The README's commands are commands, its examples of output are output, and its paths exist."""

import re
import shlex

import pytest

from gptlab.commands.cli import VERBS
from gptlab.config.compose import ConfigError, compose_config
from gptlab.sweeps.jobs import check_jobs, sweep_jobs
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(
    r"(?:python train\.py|gptlab (?:train|data|generate|chat|classify|evaluate|compare|export))\b[^`|\n]*", README
)


def parsed(command: str) -> tuple[str, list[str]]:
    words = shlex.split(command)
    root, overrides = ("train", words[2:]) if words[0] == "python" else (words[1], words[2:])
    return root, [word for word in overrides if "=" in word]


@pytest.mark.parametrize("command", dict.fromkeys(c.strip() for c in COMMANDS if "n_layer=3" not in c))
def test_a_command_composes(command: str) -> None:
    root, overrides = parsed(command)
    if jobs := sweep_jobs(shlex.split(command)[2:]):
        check_jobs(jobs)
        return
    missing = {
        "generate": ["run=a"],
        "chat": ["run=a"],
        "classify": ["run=a"],
        "export": ["run=a", "to=b"],
        "evaluate": ["run=a"],
    }
    typed = (
        ("prompt=",) if root == "generate" else ("text=",) if root == "classify" else ()
    )  # what the verb takes before Hydra reads the rest
    assert compose_config(root, [word for word in overrides if not word.startswith(typed)] or missing.get(root, []))


def test_a_shown_mistake_is_told_as_shown() -> None:
    (shown,) = re.findall(r"    \$ (python train\.py .*)\n((?:    .*\n)+)", README)
    with pytest.raises(ConfigError) as told:
        compose_config(*parsed(shown[0]))
    assert str(told.value).splitlines() == [line.strip() for line in shown[1].splitlines()]


def test_every_path_that_is_named_exists() -> None:
    for path in set(re.findall(r"`((?:gptlab|tests|conf)/[\w./]*)`", README)) - {"conf/local/default.yaml"}:
        assert (ROOT / path).exists() or path == "conf/head/length.yaml", f"the README names {path}, which is not there"


def test_every_verb_is_in_the_readme() -> None:
    for verb in VERBS:
        assert f"`{verb}`" in README or f"gptlab {verb}" in README
