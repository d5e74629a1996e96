"""Checkpoints of before a key was there are opened as what they were."""

from omegaconf import OmegaConf

from gptlab.config.compose import compose_config
from gptlab.config.older import of_today


def test_a_classifier_of_before_has_every_key_of_todays() -> None:
    today = compose_config("train", ["head=classifier", "data=csv", "data.path=a.csv"])
    before = OmegaConf.to_container(today)
    assert isinstance(before, dict)
    for key in ("bias", "lm_weight"):
        del before["head"][key]
    for group in ("prompt", "tuning"):
        del before[group]
    opened = of_today(before)
    assert opened.head.keys() == today.head.keys()
    assert opened.keys() == today.keys()
    assert opened.head.bias is True
    assert opened.head.lm_weight == 0.0
