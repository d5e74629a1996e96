"""Any runs as jobs: what differs between them is read from their configurations."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from gptlab.config.hparams import CHOICES
from gptlab.storage.run_folder import read_summary, trained_metrics
from gptlab.sweeps.leaderboard.records import MAX_CHARACTERS, RUNNING, Job, as_number, is_running, mode_of
from gptlab.sweeps.leaderboard.sweep_record import read_choices, read_yaml

MAX_KEYS = 2_000  # of a configuration: an alias in yaml can repeat a node without end
IGNORED = ("name", "output_dir", "resume")  # where a run is
IGNORED_ENDS = ("_convert_", "_partial_", "cache_dir", "n_workers", "every_n_steps", "every_n_train_steps")
NOT_TRAINING = ("callbacks.samples", "logger", "sampling", "final_evaluation")  # does not change what is learned
ABSENT = "-"  # a key that only other runs have


def read_runs(folders: Sequence[Path]) -> list[Job]:
    """Return runs of any origin as jobs, numbered in their order, with the keys that differ."""
    configs = [read_yaml(folder / ".hydra" / "config.yaml") for folder in folders]
    choices = [read_choices(folder) for folder in folders]
    varied = vary(configs, choices)
    return [
        replace(_run(folder, number), varies=differs)
        for number, (folder, differs) in enumerate(zip(folders, varied, strict=True))
    ]


def vary(configs: Sequence[Any], choices: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Return what differs between configurations: choices of groups first, then keys.

    A key below a group is left out where the group's choice says its value already.

    Args:
        configs: nested values.
        choices: group -> choice, of each.
    """
    flats = [dict(islice(_flat(config), MAX_KEYS)) for config in configs]
    found = {group for group in CHOICES if len({each.get(group, ABSENT) for each in choices}) > 1} - {"experiment"}
    columns = {group: [each.get(group, ABSENT) for each in choices] for group in CHOICES if group in found}
    for key in dict.fromkeys(key for flat in flats for key in flat):
        values = [flat.get(key, ABSENT) for flat in flats]
        chosen = columns.get(key.partition(".")[0])
        if len(set(map(repr, values))) > 1 and not (chosen and _follows(values, chosen)):
            columns[key] = values
    return [{key: values[index] for key, values in columns.items()} for index in range(len(configs))]


def _follows(values: Sequence[Any], chosen: Sequence[str]) -> bool:
    """Return whether equal choices have equal values."""
    pairs = {(choice, repr(value)) for choice, value in zip(chosen, values, strict=True)}
    return len(pairs) == len({choice for choice, _ in pairs})


def _flat(node: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield each value that decides what is trained, with its dotted key."""
    for name, value in node.items() if isinstance(node, dict) else ():
        key = f"{path}{name}"
        if key in IGNORED or key.startswith(NOT_TRAINING) or key.endswith(IGNORED_ENDS) or depth > 20:
            continue
        if isinstance(value, dict):
            yield from _flat(value, f"{key}.", depth + 1)
        elif key.endswith("._target_"):
            yield key.removesuffix("._target_"), str(value).rpartition(".")[2][:MAX_CHARACTERS]
        else:
            yield key, value if isinstance(value, int | float | None) else str(value)[:MAX_CHARACTERS]


def _run(folder: Path, number: int) -> Job:
    summary = read_summary(folder)
    status = str(summary.get("status", "unfinished"))[:MAX_CHARACTERS]
    if status in ("unfinished", "training"):
        status = RUNNING if is_running(folder) else "unfinished"
    overrides = read_yaml(folder / ".hydra" / "overrides.yaml")
    monitor, value = _result(summary)
    return Job(
        folder,
        number,
        status,
        overrides=tuple(str(word)[:MAX_CHARACTERS] for word in overrides) if isinstance(overrides, list) else (),
        monitor=monitor,
        mode=mode_of(monitor),
        value=value,
        summary=summary,
    )


def _result(summary: Mapping[str, Any]) -> tuple[str, float | None]:
    """Return the monitored metric and its best value, None without one."""
    try:
        metrics = trained_metrics(dict(summary))
        name = str(summary["monitor"]) if summary.get("monitor") in metrics else next(iter(metrics))
        return name, as_number(metrics[name])
    except (KeyError, TypeError, StopIteration):
        return "", None
