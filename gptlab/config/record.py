"""The configuration in a run's record: plain data, whoever wrote it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from gptlab.config.check import OPTIONAL, check_record
from gptlab.config.command import command_line
from gptlab.config.plain import Config, escaped, plain, references, select
from gptlab.config.schema import TrainSchema
from gptlab.errors import UserError
from gptlab.storage.places import cache_dir

BUILT = ("model", "head", "tuning", "sampling", "prompt", "data")  # groups that an opened run is made of
USUAL = {"data.n_workers": 0, "trainer.devices": 1, "trainer.strategy": "auto"}  # what starts processes, by default
N_TOLD = 5  # of many problems


def opened_config(record: Mapping[str, Any], checkpoint: Path) -> Config:
    """Return a record's configuration, checked as a typed one is.

    Raises:
        UserError: it has a problem, or the numbers of rows by class do.
    """
    cfg = Config(record["config"])
    if problems := check_record(cfg, TrainSchema, groups=BUILT):
        more = f" and {len(problems) - N_TOLD} more" if len(problems) > N_TOLD else ""
        raise UserError(f"{checkpoint}: its configuration cannot be used: {'; '.join(problems[:N_TOLD])}{more}")
    if not all(type(count) is int and count >= 0 for count in record["labels"].values()):
        raise UserError(f"{checkpoint}: the rows of its classes are not counted: take another checkpoint")
    return on_this_machine(cfg)


def describe_config(cfg: Config, written: Mapping[str, Any], chosen: Mapping[str, str]) -> dict[str, Any]:
    """Return what a record says of the configuration, and of the command that composed it.

    Args:
        written: the same with its references, see `as_written`.
        chosen: the choice of each group when the run began.
    """
    return {"config": plain(cfg), "references": plain(written), "choices": dict(chosen), "command": command_line()}


def as_written(typed: Config | DictConfig, configured: Config, adopted: Config) -> dict[str, Any]:
    """Return a configuration with its references, but what pretrained weights decided as they decided it.

    Args:
        configured: the same, resolved.
        adopted: what the weights made of it, see `pretrained.py`.
    """
    written = escaped(typed) if isinstance(typed, Config) else references(typed)
    return written | {key: escaped(adopted[key]) for key in adopted if adopted[key] != configured[key]}


def on_this_machine(cfg: Mapping[str, Any]) -> Config:
    """Return the configuration with the places of this machine in place of those where the run was trained."""
    groups = {
        name: {**node, "cache_dir": str(cache_dir())} if isinstance(node, Mapping) and "cache_dir" in node else node
        for name, node in cfg.items()
    }
    return Config(groups)


def foreign_entries(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Return what only the user may decide, by key: what to read and what to run.

    These are the data's addresses, callbacks and loggers that are not gptlab's, and how many processes are started by
    which strategy, for some strategies import packages.
    """
    found = {key: plain(value) for key in ("data.path", "data.test_path") if (value := select(cfg, key)) is not None}
    for group in OPTIONAL:
        for name, node in cfg[group].items():
            target = node.get("_target_") if isinstance(node, Mapping) else None
            if node is not None and not str(target).startswith("gptlab."):
                found[f"{group}.{name}"] = target
    usual = {key: select(cfg, key) for key in USUAL}
    return found | {key: value for key, value in usual.items() if value not in (USUAL[key], None)}


def without_foreign(cfg: Mapping[str, Any]) -> Config:
    """Return the configuration with the usual, or nothing, in the place of `foreign_entries`."""
    found, cfg = foreign_entries(cfg), Config(plain(cfg))
    for key in found:
        group, _, name = key.partition(".")
        if group in OPTIONAL:
            del cfg[group][name]
        else:
            cfg[group][name] = USUAL.get(key, "")
    return cfg
