"""Resuming a run with its own configuration."""

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from gptlab.config.check import check_root
from gptlab.config.compose import (
    ConfigError,
    compose_config,
    compose_whole,
    is_choice,
    parse_overrides,
    quote_tilde,
)
from gptlab.config.hydra_internals import Override
from gptlab.config.plain import Config, escaped, flat, plain, select
from gptlab.config.record import foreign_entries, on_this_machine, without_foreign
from gptlab.config.run_paths import name_runs, quoted
from gptlab.config.schema import TrainSchema
from gptlab.errors import UserError
from gptlab.storage.places import check_inside
from gptlab.storage.run_folder import FINISHED, find_last, is_locked, read_status
from gptlab.storage.signature import is_own

# Keys that affect neither the weights nor the order of the data, and paths. (The data module notices another text
# by its fingerprint, and another number of devices.)
MAY_CHANGE = (
    *("trainer.max_steps", "trainer.max_epochs", "trainer.val_check_interval", "trainer.log_every_n_steps"),
    *("trainer.max_time", "trainer.min_steps", "trainer.min_epochs", "trainer.check_val_every_n_epoch"),
    *("trainer.limit_val_batches", "trainer.benchmark", "trainer.detect_anomaly", "trainer.profiler"),
    *("trainer.enable_checkpointing", "trainer.enable_progress_bar", "trainer.enable_model_summary"),
    *("trainer.accelerator", "trainer.devices", "trainer.num_nodes"),
    *("compile", "activation_checkpointing", "final_evaluation"),
    *("callbacks", "logger", "sampling", "data.path", "data.n_workers", "data.cache_dir", "data.max_expansion"),
)
MAY_NOT_CHANGE = ("callbacks.ema",)  # of those: the averaged weights are a result of the run
CONFIG_FILE = ".hydra/config.yaml"
FIXED_KEYS = ("resume", "output_dir")  # set by the resumed run
FOLDER_KEYS = ("output_dir", "hydra.run.dir")
LENGTH = ("trainer.max_steps", "trainer.max_epochs")


class TrainCommand(NamedTuple):
    """A command to train, with `resume=` resolved."""

    overrides: list[str]
    words: list[str]  # for this run's further processes: `resume=` names the checkpoint
    notes: list[str]  # for the user
    whole: DictConfig  # composed of the overrides, with Hydra's own settings
    dated: bool  # see `Composed`


def resolve_resume(words: list[str]) -> TrainCommand:
    """Return the checked command, with its `resume=` resolved.

    Without `resume=` it is a new run.

    Raises:
        ConfigError: all problems at once, including every key that may not change.
        MissingFileError: there is nothing to resume.
        UserError: the checkpoint is damaged, or not a run's.
    """
    words, notes = name_runs([quote_tilde(word) for word in words])
    paths = [word.partition("=")[2].strip("\"'") for word in words if word.startswith("resume=")]
    others = [word for word in words if not word.startswith("resume=")]
    path = paths[-1] if paths else "null"
    if path not in ("null", "auto"):
        return _resume_from(find_last(Path(path).expanduser()), others, notes)
    cfg, whole, dated = compose_whole("train", others)
    if path != "auto":
        return TrainCommand(others, others, notes, whole, dated)
    checkpoint, skipped = _find_newest(cfg, others)
    if checkpoint is None:
        notes += [*skipped, "resume=auto: no unfinished run, starting a new one"]
        return TrainCommand(others, others, notes, whole, dated)
    others = [word for word in others if word.partition("=")[0] not in FOLDER_KEYS]
    return _resume_from(checkpoint, others, [*notes, *skipped, f"resume=auto: resuming {checkpoint.parents[1]}"])


@contextmanager
def discard_config_on_failure(checkpoint: str | None, config: Path) -> Iterator[None]:
    """Delete the config folder if resuming fails.

    It is kept if a new checkpoint was written. A folder left behind would raise the next attempt's number.

    Args:
        checkpoint: the one resumed from; None for a new run.
        config: the folder that Hydra wrote for this attempt.
    """
    before = checkpoint and Path(checkpoint).stat().st_mtime_ns
    try:
        yield
    except BaseException:
        if checkpoint and Path(checkpoint).stat().st_mtime_ns == before:
            shutil.rmtree(config, ignore_errors=True)
        raise


def _find_newest(cfg: Config, words: list[str]) -> tuple[Path | None, list[str]]:
    """Return the newest unfinished run's checkpoint.

    Returns:
        The checkpoint or None, and a note for each run that was skipped.
    """
    folder, notes = Path(cfg.output_dir), []
    is_given = any(word.partition("=")[0] in FOLDER_KEYS for word in words)  # then only this folder's run can resume
    configs = [folder / CONFIG_FILE] if is_given else folder.parent.glob(f"*/{CONFIG_FILE}")
    for config in sorted((path for path in configs if path.is_file()), key=lambda path: -path.stat().st_mtime):
        candidate = config.parents[1]
        if read_status(candidate) in FINISHED:
            continue
        try:
            checkpoint = find_last(candidate)
        except (OSError, UserError) as error:
            notes.append(f"skipped: {error}")
            continue
        if not is_locked(candidate):
            return checkpoint, notes
        notes.append(f"skipped: {candidate} is being trained by another process")
    return None, notes


def _resume_from(checkpoint: Path, words: list[str], notes: list[str]) -> TrainCommand:
    """Return the command that resumes from a checkpoint.

    The checkpoint's record decides the configuration; `.hydra/` is a copy for people to read.

    Raises:
        ConfigError: all problems at once.
    """
    from gptlab.storage.checkpoint import RECORD, read_checkpoint  # torch takes seconds to import

    content = read_checkpoint(checkpoint, mmap=True)
    run, record = checkpoint.parents[1], content[RECORD]
    own = is_own(record)
    if not own:
        check_inside(run)
    # conf/resume.yaml adds the rest; the name is one that no program around this one uses
    ConfigStore.instance().store(name="gptlab_resumed", node=plain(_base_config(record, checkpoint, own=own)))
    given = [f"output_dir={quoted(run)}", f"resume={quoted(checkpoint)}"]
    if not any(word.startswith("hydra.output_subdir=") for word in words):
        n_before = max(map(_number, run.glob(".hydra/resume_*/")), default=0)
        given.append(f"hydra.output_subdir=.hydra/resume_{n_before + 1}")
    before = compose_config("resume", given)
    foreign = {} if own else foreign_entries(record["config"])
    problems = [*_untyped_entries(foreign, words, run)]
    changes = list(_changes(words, before, record["choices"], problems))
    after, whole, _ = compose_whole("resume", [*changes, *given])
    problems += _end_reached(run, before, after, content.get("global_step"))
    problems += _forbidden_changes(run, before, after, may_change=(*MAY_CHANGE, *FIXED_KEYS, *foreign))
    if problems:
        raise ConfigError(problems)
    return TrainCommand([*changes, *given], [*words, given[1]], notes, whole, dated=False)


def _base_config(record: dict[str, Any], checkpoint: Path, *, own: bool) -> dict[str, Any]:
    """Return the run's configuration, for Hydra to compose.

    The user's own run keeps the references between its keys.

    Raises:
        ConfigError: its root keys are not those of a run.
    """
    if own:
        return on_this_machine(record["references"])
    if problems := check_root(record["config"], TrainSchema):
        raise ConfigError([f"{checkpoint}: its configuration cannot be used: {problem}" for problem in problems])
    return escaped(without_foreign(on_this_machine(record["config"])))


def _untyped_entries(foreign: dict[str, Any], words: list[str], run: Path) -> Iterator[str]:
    """Yield the foreign entries that were not typed."""
    typed = {word.lstrip("+~").partition("=")[0] for word in words}
    missing = [
        f"{key} (it was {value!r:.100})"
        for key, value in foreign.items()
        if not any(name == key or name.startswith(f"{key}.") for name in typed)
    ]
    if missing:
        yield (
            f"{run} was not trained by you, so keys that name files, packages or processes must be typed again, or "
            f"removed with ~KEY: "
            f"{', '.join(missing)}"
        )


def _changes(words: list[str], before: Config, choices: dict[str, Any], problems: list[str]) -> Iterator[str]:
    """Yield the overrides that change something.

    Choosing an option that the run already has, or removing a key that it lacks, changes nothing.
    """
    for override in parse_overrides(words, problems):
        key, word = override.key_or_group, override.input_line or ""
        if is_choice(override):
            if not _same(choices.get(key), override):
                problems.append(
                    f"{key}={override.value()} cannot be chosen for a resumed run: it has {choices.get(key)}, and only "
                    "single keys of it may change; leave it out, or start a new run"
                )
        elif override.is_delete():
            if select(before, key) is not None:
                yield word
        elif key in FOLDER_KEYS and Path(str(override.value())).absolute() != Path(before.output_dir).absolute():
            problems.append(
                f"{word} cannot change: a run is resumed in its own folder, {before.output_dir}; leave it out"
            )
        elif key.partition(".")[0] not in FIXED_KEYS:
            yield f"++{word.lstrip('+')}" if word.startswith("+") else word


def _end_reached(run: Path, before: Config, after: Config, step: Any) -> Iterator[str]:
    """Yield a sentence if no step is left.

    Steps that an epoch's end decides are not known before the data are prepared, except for a finished run's.
    """
    n_steps, n_epochs = after.trainer.max_steps, after.trainer.max_epochs
    status, more = read_status(run), f"to train it further, give resume={run}"
    if not isinstance(step, int) or status not in FINISHED:
        return
    if isinstance(n_steps, int) and step > n_steps:
        yield f"resume={run}: the run has trained {step:,} steps, trainer.max_steps is {n_steps:,}: give more"
    elif step == n_steps:
        yield f"resume={run}: the run has finished its {step:,} steps; {more} trainer.max_steps={2 * step}"
    elif status == FINISHED[0] and all(select(before, key) == select(after, key) for key in LENGTH):
        epochs = f"its {n_epochs:,} epochs, {step:,} steps"
        yield f"resume={run}: the run has finished {epochs}; {more} trainer.max_epochs={2 * n_epochs}"


def _is_below(key: str, names: Sequence[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)


def _forbidden_changes(run: Path, before: Config, after: Config, *, may_change: tuple[str, ...]) -> Iterator[str]:
    """Yield the keys that changed and may not."""
    old, new = dict(flat(before)), dict(flat(after))
    for key in {**old, **new}:
        changeable = _is_below(key, may_change) and not _is_below(key, MAY_NOT_CHANGE)
        if old.get(key) != new.get(key) and not changeable:
            yield (
                f"{key} is {old.get(key)!r} in {run} and cannot become {new.get(key)!r} when it is "
                "resumed: leave it out, or start a new run"
            )


def _same(chosen: Any, override: Override) -> bool:
    return str(chosen) == str(override.value())


def _number(folder: Path) -> int:
    """Return a config folder's number.

    `.hydra/resume_2` is 2, and `.hydra` 0.
    """
    match = re.fullmatch(r"resume_(\d+)", folder.name)
    return int(match.group(1)) if match else 0
