"""The configuration in a checkpoint's record.

It is plain data and untrusted.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from gptlab.config.check import NAMED_GROUPS, check_record
from gptlab.config.plain import Config, escaped, plain, references, select
from gptlab.config.schema import TrainSchema
from gptlab.errors import UserError
from gptlab.storage.places import cache_dir
from gptlab.storage.signature import is_own

OPENED_GROUPS = ("model", "head", "tuning", "sampling", "prompt", "data")  # built when a run is opened
PROCESS_DEFAULTS = {"data.n_workers": 0, "trainer.devices": 1, "trainer.strategy": "auto"}  # start no other processes
ADDRESSES = ("path", "entity", "tracking_uri")  # arguments of callbacks and loggers: what they read, and whom they tell
N_PROBLEMS_SHOWN = 5


def record_config(record: Mapping[str, Any], checkpoint: Path) -> Config:
    """Return and check a record's configuration.

    Raises:
        UserError: it has problems, or its row counts by class are invalid.
    """
    cfg = Config(record["config"])
    if problems := check_record(cfg, TrainSchema, groups=OPENED_GROUPS):
        more = f" and {len(problems) - N_PROBLEMS_SHOWN} more" if len(problems) > N_PROBLEMS_SHOWN else ""
        raise UserError(
            f"{checkpoint}: its configuration cannot be used: {'; '.join(problems[:N_PROBLEMS_SHOWN])}{more}"
        )
    if not all(type(count) is int and count >= 0 for count in record["labels"].values()):
        raise UserError(f"{checkpoint}: its row counts by class are invalid: choose another checkpoint")
    return on_this_machine(cfg)


def describe_config(cfg: Config, written: Mapping[str, Any], chosen: Mapping[str, str], command: str) -> dict[str, Any]:
    """Return a record's entries about the configuration.

    Args:
        written: the configuration with its references, see `as_written`.
        chosen: the choice of each group when the run began.
        command: what trains the run.
    """
    return {"config": plain(cfg), "references": plain(written), "choices": dict(chosen), "command": command}


def as_written(typed: Config | DictConfig, configured: Config, adopted: Config) -> dict[str, Any]:
    """Return a configuration with its references unresolved.

    Groups that pretrained weights determined have their final values.

    Args:
        configured: the typed configuration, resolved.
        adopted: the same after `pretrained.adopt`.
    """
    written = escaped(typed) if isinstance(typed, Config) else references(typed)
    return written | {key: escaped(adopted[key]) for key in adopted if adopted[key] != configured[key]}


def data_config(cfg: Config, record: Mapping[str, Any] | None, *, labelled: bool) -> Config:
    """Return the data configuration of an opened run.

    Args:
        record: of its checkpoint; None for a pretrained model.
        labelled: whether it is a classifier.

    Raises:
        UserError: a pretrained model has no data; and those of somebody else's run must be named.
    """
    if "data" not in cfg:
        example = "data=csv data.path=my.csv" if labelled else "data=text data.path=my.txt"
        raise UserError(f"a pretrained model has no data of its own: name some with {example}")
    if record is not None and not is_own(record):
        named = foreign_entries(cfg).get("data.path")
        raise UserError(
            f"the run was not trained by you, so its data, {named!r:.200}, are not read unless you name them: give "
            "data=text data.path=my.txt"
        )
    return cfg.data


def on_this_machine(cfg: Mapping[str, Any]) -> Config:
    """Return the configuration with this machine's cache folders."""
    groups = {
        name: {**node, "cache_dir": str(cache_dir())} if isinstance(node, Mapping) and "cache_dir" in node else node
        for name, node in cfg.items()
    }
    return Config(groups)


def foreign_entries(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries that only the user may decide, by key.

    These are the addresses of data, of a callback's text and of a logger's service, callbacks and loggers that are not
    gptlab's, the number of processes, and the strategy that starts them, because some strategies import packages.
    """
    return {".".join(path): value for path, value in _foreign(cfg)}


def _foreign(cfg: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the path and the value of each foreign entry; a stranger's names may hold dots."""
    for path in (("data", "path"), ("data", "test_path")):
        if (value := select(cfg, ".".join(path))) is not None:
            yield path, plain(value)
    for group in NAMED_GROUPS:
        for name, node in cfg[group].items():
            target = node.get("_target_") if isinstance(node, Mapping) else None
            if node is not None and not str(target).startswith("gptlab."):
                yield (group, name), target
            elif node is not None:
                yield from (((group, name, key), plain(node[key])) for key in ADDRESSES if node.get(key) is not None)
    for key, default in PROCESS_DEFAULTS.items():
        if (value := select(cfg, key)) not in (default, None):
            yield tuple(key.split(".")), value


def without_foreign(cfg: Mapping[str, Any]) -> Config:
    """Replace the `foreign_entries` by defaults."""
    foreign, cfg = list(_foreign(cfg)), Config(plain(cfg))
    for (group, name, *argument), _ in foreign:
        if argument:
            cfg[group][name][argument[0]] = None
        elif group in NAMED_GROUPS:
            del cfg[group][name]
        else:
            cfg[group][name] = PROCESS_DEFAULTS.get(f"{group}.{name}", "")
    return cfg
