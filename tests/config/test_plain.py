"""A configuration as plain values."""

import copy
import random

import pytest
from omegaconf import OmegaConf

from gptlab.config.plain import Config, escaped, flat, plain, references, resolved, select, to_yaml


def test_values_by_attribute_and_by_key() -> None:
    cfg = Config({"a": {"b": [1, {"c": 2}]}, "d": None})
    assert (cfg.a.b[1].c, cfg["d"], select(cfg, "a.b")) == (2, None, [1, {"c": 2}])
    assert select(cfg, "a.x.y") is None
    assert dict(flat(cfg)) == {"a.b": [1, {"c": 2}], "d": None}
    cfg.d = {"e": 1}
    assert cfg.d.e == 1
    assert type(plain(copy.deepcopy(cfg))["d"]) is dict
    with pytest.raises(AttributeError, match="no key x"):
        _ = cfg.x
    assert OmegaConf.to_container(OmegaConf.create(to_yaml(cfg))) == plain(cfg)


def test_references_are_resolved_once_and_text_stays_text() -> None:
    cfg = OmegaConf.create({"a": 3, "b": "${a}", "c": r"\${a}"})
    assert resolved(cfg) == {"a": 3, "b": 3, "c": "${a}"}
    assert references(cfg) == {"a": 3, "b": "${a}", "c": r"\${a}"}
    assert Config({"b": "${a}"}).b == "${a}"


@pytest.mark.parametrize("wrong", ["${nothing}", "${oc.env:GPTLAB_NO_SUCH_NAME}", "${b}", "${nothing:1}"])
def test_a_broken_reference_is_reported(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"refers to a key that does not exist"):
        resolved(OmegaConf.create({"b": wrong}))


def test_escaped_text_resolves_to_itself() -> None:
    draw = random.Random(0)
    signs = ["$", "{", "}", "\\", ":", "a", "'", '"', " ", "${", "\\${", ",", "[", "?"]
    for _ in range(2000):
        text = "".join(draw.choice(signs) for _ in range(draw.randint(0, 8)))
        if text != "???":
            assert resolved(OmegaConf.create(escaped({"a": {"b": [text]}}))).a.b == [text]
