"""Signatures read from the source match `inspect`."""

import importlib
import inspect
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hydra.utils import get_object

from gptlab.config.admission import NAMING
from gptlab.config.signature import arguments, class_constant, public_classes
from gptlab.config.value_types import type_name
from tests.conftest import ROOT


def _targets(value: Any) -> set[str]:
    found = {value["_target_"]} if isinstance(value, dict) and "_target_" in value else set()
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        found |= _targets(item)
    return found


TARGETS = sorted(
    {t for path in Path(ROOT / "conf").rglob("*.yaml") for t in _targets(yaml.safe_load(path.read_text("utf-8")))}
)


@pytest.mark.parametrize("target", [t for t in TARGETS if t.startswith("gptlab.") and t not in NAMING])
def test_names_and_required_arguments_match_inspect(target: str) -> None:
    read = arguments(target)
    assert read is not None
    real = inspect.signature(get_object(target)).parameters
    assert list(read) == list(real)
    for name, parameter in real.items():
        assert read[name].required == (parameter.default is inspect.Parameter.empty)
        assert read[name].by_position == (parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD)


@pytest.mark.parametrize(("module", "base"), NAMING.values(), ids=lambda name: name)
def test_classes_of_a_library_and_their_arguments_match_inspect(module: str, base: str) -> None:
    library = importlib.import_module(module)
    kind, found = getattr(library, base), public_classes(module, base)
    real = {name for name in library.__all__ if isinstance(getattr(library, name), type) and name != base}
    assert found.keys() == {name for name in real if issubclass(getattr(library, name), kind)}
    for name, target in found.items():
        read = arguments(target)
        assert read is not None
        assert list(read) == list(inspect.signature(getattr(library, name)).parameters)


def test_type_aliases_are_followed() -> None:
    gpt = arguments("gptlab.model.gpt.GPT")
    assert gpt is not None
    assert type_name(gpt["n_layers"].type) == "a whole number"
    assert gpt["init"].type == Literal["gpt2", "torch", "zero_out"]
    assert type_name(gpt["n_kv_heads"].type) == "a whole number or null"
    assert type_name(gpt["attention"].type) == "one of fused, naive, flex"
    trainer = arguments("gptlab.training.planning.settings.TrainerSettings")
    assert trainer is not None
    assert type_name(trainer["accumulate_grad_batches"].type) == "a whole number or auto"


def test_class_constants_are_read_without_an_import() -> None:
    assert class_constant("gptlab.heads.lm.LMHead", "needs") == ("ids", "targets")
    assert class_constant("gptlab.data.text.dataset.TextData", "gives") == ("ids", "targets")


def test_a_missing_source_gives_none() -> None:
    assert arguments("no_such_package.thing.Name") is None
