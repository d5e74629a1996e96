"""`resume=` on a command line -> the words that go on with a run: its own configuration, and on top what may change."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from gptlab.config.check import check_root
from gptlab.config.compose import ConfigError, compose_config, compose_whole, is_choice, parse_overrides, readable
from gptlab.config.plain import Config, escaped, flat, plain, select
from gptlab.config.record import foreign_entries, on_this_machine, without_foreign
from gptlab.config.schema import TrainSchema
from gptlab.storage.places import check_inside
from gptlab.storage.run_folder import FINISHED, find_last, is_locked, read_status
from gptlab.storage.signature import is_own

# What decides neither the weights nor the order of the data, and where things lie. (A text that is another one is
# noticed by its fingerprint, another number of devices by the data's.)
MAY_CHANGE = (
    *("trainer.max_steps", "trainer.max_epochs", "trainer.val_check_interval", "trainer.log_every_n_steps"),
    *("trainer.accelerator", "trainer.devices", "compile", "activation_checkpointing"),
    *("callbacks", "logger", "sampling", "data.path", "data.n_workers", "data.cache_dir", "data.max_expansion"),
)
CONFIG = ".hydra/config.yaml"
GIVEN = ("resume", "output_dir")  # by the run that goes on


class Resumption(NamedTuple):
    """What to compose instead of what was typed."""

    overrides: list[str]
    words: list[str]  # by which another process gets here: `resume=` names the checkpoint
    notes: list[str]  # for the person who typed it
    whole: DictConfig  # what they compose, with Hydra's own settings


def resumption(words: list[str]) -> Resumption:
    """What the overrides ask for, checked: without `resume=` a new run, as they stand.

    Raises:
        ConfigError: every mistake at once; what is to change and cannot is among them, by name.
        FileNotFoundError: there is nothing to go on from.
        UserError: the checkpoint is damaged, or no run's.
    """
    words = [readable(word) for word in words]
    asked = [word.partition("=")[2].strip("\"'") for word in words if word.startswith("resume=")]
    others = [word for word in words if not word.startswith("resume=")]
    wanted = asked[-1] if asked else "null"
    if wanted not in ("null", "", "auto"):
        return _go_on(find_last(Path(wanted).expanduser()), others, [])
    cfg, whole = compose_whole("train", others)
    if wanted != "auto":
        return Resumption(others, others, [], whole)
    checkpoint, notes = _newest(cfg, others)
    if checkpoint is None:
        return Resumption(others, others, [*notes, "resume=auto: nothing to go on with, so a new run begins"], whole)
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


def _newest(cfg: Config, words: list[str]) -> tuple[Path | None, list[str]]:
    """The checkpoint of the newest unfinished run of this name that is whole, and a note for each one passed over."""
    folder, notes = Path(cfg.output_dir), []
    chosen = any(word.startswith("output_dir=") for word in words)  # then it is this folder's run or none
    configs = [folder / CONFIG] if chosen else folder.parent.glob(f"*/{CONFIG}")
    for config in sorted((path for path in configs if path.is_file()), key=lambda path: -path.stat().st_mtime):
        candidate = config.parents[1]
        if read_status(candidate) in FINISHED:
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
    """The record in the checkpoint decides what the run is; `.hydra/` holds the same, for people to read."""
    from gptlab.storage.checkpoint import RECORD, read_checkpoint  # torch takes seconds to import

    run, record = checkpoint.parents[1], read_checkpoint(checkpoint, mmap=True)[RECORD]
    own = is_own(record)
    if not own:
        check_inside(run)
    # conf/resume.yaml lays the rest around it
    ConfigStore.instance().store(name="config", node=plain(_base_config(record, checkpoint, own=own)))
    given = [f"output_dir={_quoted(run)}", f"resume={_quoted(checkpoint)}"]
    if not any(word.startswith("hydra.output_subdir=") for word in words):
        n_before = max(map(_number, run.glob(".hydra/resume_*/")), default=0)
        given.append(f"hydra.output_subdir=.hydra/resume_{n_before + 1}")
    before = compose_config("resume", given)
    foreign = {} if own else foreign_entries(record["config"])
    problems = [*_untyped(foreign, words, run)]
    changes = list(_changes(words, before, record["choices"], problems))
    after, whole = compose_whole("resume", [*changes, *given])
    problems += _refusals(run, before, after, may_change=(*MAY_CHANGE, *GIVEN, *foreign))
    if problems:
        raise ConfigError(problems)
    return Resumption([*changes, *given], [*words, given[1]], notes, whole)


def _base_config(record: dict[str, Any], checkpoint: Path, *, own: bool) -> dict[str, Any]:
    """Return what the run was, as Hydra composes it; of the user's own run with the references between its keys.

    Raises:
        ConfigError: it has other keys than a run.
    """
    if own:
        return on_this_machine(record["references"])
    if problems := check_root(record["config"], TrainSchema):
        raise ConfigError([f"{checkpoint}: its configuration cannot be used: {problem}" for problem in problems])
    return escaped(without_foreign(on_this_machine(record["config"])))


def _untyped(foreign: dict[str, Any], words: list[str], run: Path) -> Iterator[str]:
    """A sentence with what another's run may not decide, and nobody typed."""
    typed = {word.lstrip("+~").partition("=")[0] for word in words}
    missing = [
        f"{key} (it was {value!r:.100})"
        for key, value in foreign.items()
        if not any(name == key or name.startswith(f"{key}.") for name in typed)
    ]
    if missing:
        yield (
            f"{run} was not trained by you, so what it would read and run has to be typed again, or left out by ~KEY: "
            f"{', '.join(missing)}"
        )


def _changes(words: list[str], before: Config, choices: dict[str, Any], problems: list[str]) -> Iterator[str]:
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
            if select(before, key) is not None:
                yield word
        elif key == "hydra.run.dir" and Path(str(override.value())).absolute() != Path(before.output_dir).absolute():
            problems.append(f"{word}: a run is resumed in its own folder, {before.output_dir}: leave it out")
        elif key.partition(".")[0] not in GIVEN:
            yield f"++{word.lstrip('+')}" if word.startswith("+") else word


def _refusals(run: Path, before: Config, after: Config, *, may_change: tuple[str, ...]) -> Iterator[str]:
    old, new = dict(flat(before)), dict(flat(after))
    for key in {**old, **new}:
        changeable = any(key == name or key.startswith(f"{name}.") for name in may_change)
        if old.get(key) != new.get(key) and not changeable:
            yield (
                f"{key} is {old.get(key)!r} in {run} and cannot become {new.get(key)!r} in a run that goes on: "
                "leave it out, or start a new run"
            )


def _same(chosen: Any, override: Override) -> bool:
    return str(chosen) == str(override.value())


def _number(folder: Path) -> int:
    """`.hydra/resume_2` -> 2, `.hydra` -> 0."""
    found = re.fullmatch(r"resume_(\d+)", folder.name)
    return int(found.group(1)) if found else 0


def _quoted(value: Any) -> str:
    """A text as Hydra reads it, whatever is in it."""
    return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"
