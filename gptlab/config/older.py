"""Configurations of before a group or a key was there."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from gptlab.config.conf import conf_dir

SINCE = {"prompt": "alpaca", "tuning": "full"}  # groups that came later, and what runs without them did
CLASSIFIER = "gptlab.heads.classifier.ClassifierHead"


def of_today(config: dict[str, Any]) -> DictConfig:
    """A checkpoint's configuration, with every group that there is, and with every key of its head's."""
    missing = {group: choice for group, choice in SINCE.items() if group not in config}
    before = {"bias": True, "lm_weight": 0.0}  # what classifiers did before they were asked
    head = before if config["head"]["_target_"] == CLASSIFIER else {}
    added = {group: OmegaConf.load(conf_dir() / group / f"{choice}.yaml") for group, choice in missing.items()}
    return OmegaConf.create({**config, **added, "head": head | config["head"]})
