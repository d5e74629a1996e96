"""`resume=` on a command line -> the words that go on with a run: its own configuration, and on top what may change."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from gptlab.config.compose import ConfigError, compose_config, compose_whole, is_choice, parse_overrides, readable
from gptlab.config.flat import flat
from gptlab.training.folder import FINISHED, find_last, is_locked, status

# What decides neither the weights nor the order of the data, and where things lie. (A text that is another one is
# noticed by its fingerprint, another number of devices by the data's.)
MAY_CHANGE = (
    *("trainer.max_steps", "trainer.max_epochs", "trainer.val_check_interval", "trainer.log_every_n_steps"),
    *("trainer.accelerator", "trainer.devices", "compile", "activation_checkpointing"),
    *("callbacks", "logger", "sampling", "data.path", "data.n_workers", "data.cache_dir"),
)
CONFIG = ".hydra/config.yaml"
LATER = ("prompt", "weights", "tuning")  # groups that early runs lack, and take from conf/resume.yaml
GIVEN = ("resume", "output_dir")  # by the run that goes on


class Resumption(NamedTuple):
    """What to compose instead of what was typed."""

    root: str
    overrides: list[str]
    notes: list[str]  # for the person who typed it
    whole: DictConfig  # what they compose, with Hydra's own settings


def resumption(words: list[str]) -> Resumption:
    """What the overrides ask for, checked: without `resume=` a new run, as they stand.

    Raises:
        ConfigError: every mistake at once; what is to change and cannot is among them, by name.
        FileNotFoundError: there is nothing to go on from.
        ValueError: the checkpoint is damaged, or no run's.
    """
    words = [readable(word) for word in words]
    asked = [word.partition("=")[2].strip("\"'") for word in words if word.startswith("resume=")]
    others = [word for word in words if not word.startswith("resume=")]
    wanted = asked[-1] if asked else "null"
    if wanted not in ("null", "", "auto"):
        return _go_on(find_last(Path(wanted)), others, [])
    cfg, whole = compose_whole("train", others)
    if wanted != "auto":
        return Resumption("train", others, [], whole)
    checkpoint, notes = _newest(cfg, others)
    if checkpoint is None:
        return Resumption("train", others, [*notes, "resume=auto: nothing to go on with, so a new run begins"], whole)
    return _go_on(checkpoint, others, [*notes, f"resume=auto: goes on with {checkpoint.parents[1]}"])


@contextmanager
def attempt(checkpoint: str | None, config: Path) -> Iterator[None]:
    """A resumption that comes to nothing takes its configuration with it, on which the next one would build.

    Args:
        checkpoint: from which it goes on; None for a new run.
        config: the folder that Hydra wrote this time.
    """
    before = checkpoint and Path(checkpoint).stat().st_mtime_ns
    try:
        yield
    except BaseException:
        if checkpoint and Path(checkpoint).stat().st_mtime_ns == before:
            shutil.rmtree(config, ignore_errors=True)
        raise


def _newest(cfg: DictConfig, words: list[str]) -> tuple[Path | None, list[str]]:
    """The checkpoint of the newest unfinished run of this name that is whole, and a note for each one passed over."""
    folder, notes = Path(cfg.output_dir), []
    chosen = any(word.startswith("output_dir=") for word in words)  # then it is this folder's run or none
    configs = [folder / CONFIG] if chosen else folder.parent.glob(f"*/{CONFIG}")
    for config in sorted((path for path in configs if path.is_file()), key=lambda path: -path.stat().st_mtime):
        candidate = config.parents[1]
        if status(candidate) in FINISHED:
            continue
        try:
            checkpoint = find_last(candidate)
        except (OSError, ValueError) as error:
            notes.append(f"passed over: {error}")
            continue
        if not is_locked(candidate):
            return checkpoint, notes
        notes.append(f"passed over: {candidate} is being trained by another process")
    return None, notes


def _go_on(checkpoint: Path, words: list[str], notes: list[str]) -> Resumption:
    run = checkpoint.parents[1]
    if not (run / CONFIG).is_file():
        raise FileNotFoundError(f"resume={run}: it has no .hydra/config.yaml: give the folder of a run of train.py")
    latest = max([run / ".hydra", *run.glob(".hydra/resume_*/")], key=_number)
    has = OmegaConf.load(latest / "config.yaml")
    given = [
        *(f"~{group}" for group in LATER if group in has),  # or its keys would be mixed with those of another choice
        f"hydra.searchpath=[{_quoted(f'file://{latest.absolute()}')}]",
        f"output_dir={_quoted(run)}",
        f"resume={_quoted(checkpoint)}",
        f"hydra.output_subdir=.hydra/resume_{_number(latest) + 1}",
    ]
    before = compose_config("resume", given)
    problems: list[str] = []
    changes = list(_changes(words, before, _choices(run), problems))
    after, whole = compose_whole("resume", [*changes, *given])
    problems += _refusals(run, before, after)
    if problems:
        raise ConfigError(problems)
    return Resumption("resume", [*changes, *given], notes, whole)


def _changes(words: list[str], before: DictConfig, choices: dict[str, Any], problems: list[str]) -> Iterator[str]:
    """The overrides that still mean something: not the choice of what the run has, nor the removal of what it lacks."""
    for override in parse_overrides(words, problems):
        key, word = override.key_or_group, override.input_line or ""
        if is_choice(override):
            if not _same(choices.get(key), override):
                problems.append(
                    f"{key}={override.value()} cannot be chosen for a run that goes on: it has {choices.get(key)}, of "
                    "which single keys may change; or start a new run"
                )
        elif override.is_delete():
            if OmegaConf.select(before, key) is not None:
                yield word
        elif key.partition(".")[0] not in GIVEN:
            yield f"++{word.lstrip('+')}" if word.startswith("+") else word


def _refusals(run: Path, before: DictConfig, after: DictConfig) -> Iterator[str]:
    old, new = dict(flat(before)), dict(flat(after))
    for key in {**old, **new}:
        changeable = any(key == name or key.startswith(f"{name}.") for name in (*MAY_CHANGE, *GIVEN))
        if old.get(key) != new.get(key) and not changeable:
            yield (
                f"{key} is {old.get(key)!r} in {run} and cannot become {new.get(key)!r} in a run that goes on: "
                "leave it out, or start a new run"
            )


def _choices(run: Path) -> dict[str, Any]:
    """What the run chose of each group."""
    cfg = OmegaConf.load(run / ".hydra" / "hydra.yaml")
    return dict(OmegaConf.select(cfg, "hydra.runtime.choices") or {})


def _same(chosen: Any, override: Override) -> bool:
    return str(chosen) == str(override.value())


def _number(folder: Path) -> int:
    """`.hydra/resume_2` -> 2, `.hydra` -> 0."""
    found = re.fullmatch(r"resume_(\d+)", folder.name)
    return int(found.group(1)) if found else 0


def _quoted(value: Any) -> str:
    """A text as Hydra reads it, whatever is in it."""
    return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"
