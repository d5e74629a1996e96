"""What Hydra recorded of a sweep's command in `multirun.yaml`: how its jobs become rows, its words, its choices."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml  # type: ignore[import-untyped]

from gptlab.errors import UserError, nearest
from gptlab.storage.files import read_text

MAX_YAML_BYTES = 1 << 20  # of a configuration or a command's record
MAX_CHARACTERS = 2_000  # of a choice
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
CHOICES = {"order": ("rank", "given"), "compare": ("best", "previous"), "mode": (None, "min", "max")}


class Options(NamedTuple):
    """How jobs become rows."""

    average: Sequence[str]  # keys whose values are averaged, such as seed
    order: Literal["rank", "given"]
    compare: Literal["best", "previous"]
    metric: str | None  # to rank by; None for the one that the jobs monitored
    mode: Literal["min", "max"] | None  # None to know it by the metric


OPTIONS = Options(("seed",), "rank", "best", None, None)  # of runs that are no sweep's jobs; see also conf/hydra/output


def read_yaml(path: Path) -> Any:
    """Return a yaml file's plain values, None if it cannot be read."""
    try:
        return yaml.load(read_text(path, limit=MAX_YAML_BYTES), Loader=LOADER)
    except (OSError, UserError, yaml.YAMLError, RecursionError, ValueError):
        return None


def read_choices(folder: Path) -> dict[str, str]:
    """Return the choice from each group of a run, as Hydra recorded it."""
    node = _inner(read_yaml(folder / ".hydra" / "hydra.yaml"), "runtime", "choices")
    return {str(group): str(choice)[:MAX_CHARACTERS] for group, choice in node.items()}


def read_options(sweep: Path) -> Options:
    """Return how a sweep wants its jobs ranked: `hydra.callbacks.leaderboard` of its command."""
    node = _inner(read_yaml(sweep / "multirun.yaml"), "callbacks", "leaderboard")
    try:
        return check_options({name: node[name] for name in Options._fields if name in node})
    except UserError:  # the file may be a stranger's
        return OPTIONS


def read_words(sweep: Path) -> list[str]:
    """Return the words of a sweep's command but for its folder, none if they were not recorded."""
    overrides = _inner(read_yaml(sweep / "multirun.yaml"), "overrides")
    found = [overrides.get(name) for name in ("task", "hydra")]
    words = [str(word) for part in found if isinstance(part, list) for word in part]
    swept = ["-m"] if "hydra.mode=MULTIRUN" in words else []
    return swept + [word for word in words if not word.startswith(("hydra.sweep.dir=", "hydra.mode=MULTIRUN"))]


def read_swept(sweep: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the sweeper's parameters and the words of a sweep's command, both empty if they were not recorded."""
    recorded = read_yaml(sweep / "multirun.yaml")  # references stay unresolved
    words = _inner(recorded, "overrides").get("task")
    return _inner(recorded, "sweeper", "params"), list(map(str, words)) if isinstance(words, list) else []


def check_options(given: Mapping[str, Any]) -> Options:
    """Return the options with these values.

    Raises:
        UserError: there is no such option or value.
    """
    for name, value in given.items():
        if name not in Options._fields:
            names = ", ".join(Options._fields)
            raise UserError(
                f"hydra.callbacks.leaderboard.{name} is not a key{nearest(name, Options._fields)}; there are {names}"
            )
        if value not in CHOICES.get(name, (value,)):
            choices = ", ".join("null" if choice is None else choice for choice in CHOICES[name])
            raise UserError(f"hydra.callbacks.leaderboard.{name} is {value!r}: it must be one of {choices}")
    average = given.get("average", OPTIONS.average)
    if isinstance(average, str) or not all(isinstance(key, str) for key in average):
        raise UserError(f"hydra.callbacks.leaderboard.average is {average!r}: give a list of keys, such as [seed]")
    return OPTIONS._replace(**{**given, "average": tuple(average)})


def _inner(record: Any, *names: str) -> dict[Any, Any]:
    """Return a node of Hydra's settings, empty if it is none."""
    for name in ("hydra", *names):
        record = record.get(name) if isinstance(record, dict) else None
    return record if isinstance(record, dict) else {}
