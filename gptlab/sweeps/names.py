"""What varies in a sweep, and the names of its jobs."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gptlab.config.hydra_internals import parse_override
from gptlab.sweeps.leaderboard.sweep_record import read_swept

MAX_NAME = 80  # characters of a job's name
MAX_VALUE = 30  # characters of a value in it
N_DIGITS = 3  # of a job's number, so that names sort like numbers; a thousandth job has four
DIGITS = 4  # significant digits of a float in a name; the number tells jobs apart


def job_name(number: int, varies: Mapping[str, Any]) -> str:
    """Return a job's name: its number and what varies, such as `003_lr-0.01_n_layers-2`.

    It has only letters, digits and `._-`, so that it needs no quotes in a shell or an override. It depends on nothing
    else, so that the job finds its folder again.
    """
    name = f"{number:0{N_DIGITS}}"
    for key, label in short_keys(varies).items():
        part = f"_{_plain_characters(label)}-{_short_value(varies[key])}"
        if len(name) + len(part) > MAX_NAME:
            break
        name += part
    return name


def short_keys(keys: Iterable[str]) -> dict[str, str]:
    """Return the last part of each key, or the whole key where two have the same."""
    last = {key: re.split(r"[./]", key)[-1] for key in keys}
    counts = Counter(last.values())
    return {key: label if counts[label] == 1 else key for key, label in last.items()}


def swept_keys(words: Iterable[str]) -> list[str]:
    """Return the keys of the overrides that have several values."""
    overrides = map(parse_override, words)
    return list(dict.fromkeys(override.key_or_group for override in overrides if override.is_sweep_override()))


def recorded_keys(sweep: Path) -> list[str]:
    """Return the keys that differ between the jobs, by Hydra's record of the command."""
    params, words = read_swept(sweep)
    return swept_keys([*(f"{key}={value}" for key, value in params.items()), *words])


def varied_values(keys: Iterable[str], overrides: Iterable[str]) -> dict[str, Any]:
    """Return a job's value of each key: a number, a text, null, or a list of them."""
    given = {override.key_or_group: override.value() for override in map(parse_override, overrides)}
    return {key: _storable(given[key]) for key in keys if key in given}


def _storable(value: Any) -> Any:
    """Return a value that JSON can express."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, bool | int | str | list) else str(value)


def _short_value(value: Any) -> str:
    """Return a value in the characters of a name, a path as its last part."""
    if isinstance(value, list):
        return _plain_characters("-".join(map(_short_value, value)))[:MAX_VALUE]
    if isinstance(value, float):
        return f"{value:.{DIGITS}g}".replace("+", "")
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return _plain_characters(re.split(r"[/\\]", text.rstrip("/\\"))[-1])[:MAX_VALUE]


def _plain_characters(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)


def _resolve_name(*, _root_: DictConfig) -> str:
    """Return the name of the job that Hydra is about to run, for `hydra.sweep.subdir`."""
    hydra = _root_.hydra
    return job_name(hydra.job.num, varied_values(recorded_keys(Path(hydra.sweep.dir)), hydra.overrides.task))


OmegaConf.register_new_resolver("job_name", _resolve_name, replace=True)
