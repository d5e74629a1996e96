"""The configuration in a run's record: plain data, whoever wrote it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gptlab.config.check import OPTIONAL, check_record
from gptlab.config.plain import Config, plain, select
from gptlab.config.schema import TrainSchema
from gptlab.storage.places import cache_dir

BUILT = ("model", "head", "tuning", "sampling", "prompt", "data")  # groups that an opened run is made of
STRATEGIES = ("auto", "ddp")  # others may import a package
N_TOLD = 5  # of many problems


def opened_config(record: Mapping[str, Any], checkpoint: Path) -> Config:
    """Return a record's configuration, checked as a typed one is.

    Raises:
        ValueError: it has a problem, or the labels of the classes do.
    """
    cfg = Config(record["config"])
    if problems := check_record(cfg, TrainSchema, groups=BUILT):
        more = f" and {len(problems) - N_TOLD} more" if len(problems) > N_TOLD else ""
        raise ValueError(f"{checkpoint}: its configuration cannot be used: {'; '.join(problems[:N_TOLD])}{more}")
    if sorted(map(repr, record["labels"].values())) != sorted(map(repr, range(len(record["labels"])))):
        raise ValueError(f"{checkpoint}: the labels of its classes are not numbered from 0: take another checkpoint")
    return on_this_machine(cfg)


def on_this_machine(cfg: Mapping[str, Any]) -> Config:
    """Return the configuration with the places of this machine in place of those where the run was trained."""
    groups = {
        name: {**node, "cache_dir": str(cache_dir())} if isinstance(node, Mapping) and "cache_dir" in node else node
        for name, node in cfg.items()
    }
    return Config(groups)


def foreign_entries(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Return what only the user may decide, by key: what to read, what to run.

    These are the data's addresses, callbacks and loggers that are not gptlab's, and strategies that import packages.
    """
    found = {key: plain(value) for key in ("data.path", "data.test_path") if (value := select(cfg, key)) is not None}
    for group in OPTIONAL:
        for name, node in cfg[group].items():
            target = node.get("_target_") if isinstance(node, Mapping) else None
            if node is not None and not str(target).startswith("gptlab."):
                found[f"{group}.{name}"] = target
    strategy = select(cfg, "trainer.strategy")
    return found if strategy in STRATEGIES else {**found, "trainer.strategy": strategy}


def without_foreign(cfg: Mapping[str, Any]) -> Config:
    """Return the configuration with nothing in the place of `foreign_entries`."""
    found, cfg = foreign_entries(cfg), Config(plain(cfg))
    for key in found:
        group, _, name = key.partition(".")
        if group in OPTIONAL:
            del cfg[group][name]
        else:
            cfg[group][name] = "auto" if name == "strategy" else ""
    return cfg
