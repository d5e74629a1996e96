"""Each yaml of conf/data composes alone and matches its class."""

import hashlib
import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from gptlab.data.text.cleaning import parse_cleaning

CONF = Path(__file__).parents[2] / "conf"


def composed(name: str, *overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(overrides=[f"+data={name}", *overrides])
    return OmegaConf.to_container(config.data, resolve=True)  # type: ignore[return-value]


def check_arguments(node: dict[str, Any]) -> None:
    module, name = node["_target_"].rsplit(".", 1)
    parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    assert {key for key in node if not key.startswith("_")} == set(parameters)
    assert all(parameter.default is parameter.empty for parameter in parameters.values())


@pytest.mark.parametrize("name", ["kjv", "shakespeare", "text", "verdict"])
def test_each_composes_and_lists_every_argument(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTLAB_CACHE", "/somewhere")
    node = composed(name, *(["data.path=a.txt"] if name == "text" else []))
    check_arguments(node)
    check_arguments(node["reader"])
    parse_cleaning(node["clean"])
    assert node["cache_dir"] == "/somewhere"


def test_the_default_cache_is_in_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GPTLAB_CACHE")
    assert composed("verdict")["cache_dir"] == "~/.cache/gptlab"


def test_cleaning_can_be_given_on_the_command_line() -> None:
    node = composed("verdict", "data.clean=[newlines,duplicates,min_length:200]")
    assert parse_cleaning(node["clean"]).filters == (("duplicates", 0), ("min_length", 200))


@pytest.mark.parametrize(("name", "file"), [("verdict", "the-verdict.txt"), ("shakespeare", "tiny-shakespeare.txt")])
def test_the_hash_matches_the_text(shared_data: Path, name: str, file: str) -> None:
    assert composed(name)["sha256"] == hashlib.sha256((shared_data / file).read_bytes()).hexdigest()
