"""Configurations of before a group was there."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from gptlab.config.conf import conf_dir

SINCE = {"prompt": "alpaca", "tuning": "full"}  # groups that came later, and what runs without them did


def of_today(config: dict[str, Any]) -> DictConfig:
    """A checkpoint's configuration, with every group that there is."""
    missing = {group: choice for group, choice in SINCE.items() if group not in config}
    added = {group: OmegaConf.load(conf_dir() / group / f"{choice}.yaml") for group, choice in missing.items()}
    return OmegaConf.create({**config, **added})
