"""A run from Python: what the command line does for a run in a terminal.

`Run.compose([...])` composes its overrides here, and `Run.train()` shows its log lines and writes its files
here. Nothing ends the process: where a command prints a sentence and exits, an exception has it.
"""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any, NamedTuple

import rich
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from gptlab.config.plain import Config
from gptlab.config.resume import discard_config_on_failure, resolve_resume
from gptlab.console import ConsoleHandler
from gptlab.data.files.memory import store_rows
from gptlab.errors import UserError
from gptlab.hardware.memory import MEMORY_REMEDY, enough_memory
from gptlab.hardware.precision import count_devices, float32_matmul_precision
from gptlab.storage.run_folder import training_folder

LOGGER = logging.getLogger("gptlab")  # parent of every module's logger
LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"  # that of conf/hydra/job_logging
TEXT_FIELDS = ("data.reader.field=", "data.reader.text_field=")  # overrides that name the key of a text
INTERRUPTED = 130  # exit status of a run that Ctrl-C stopped


class PythonCommand(NamedTuple):
    """Overrides from Python, composed and checked; for the command line there is `TrainCommand`."""

    call: str  # the call in Python that trains the run
    whole: DictConfig  # with Hydra's own settings
    lines: MemoryHandler  # log lines from before the run has a folder

    @property
    def cfg(self) -> DictConfig:
        """Return the configuration, its references unresolved."""
        return OmegaConf.masked_copy(self.whole, [str(key) for key in self.whole if key != "hydra"])

    @property
    def origin(self) -> dict[str, Any]:
        """Return the command and the choice from each group, for the run's record."""
        chosen = {str(group): str(choice) for group, choice in self.whole.hydra.runtime.choices.items()}
        return {"command": self.call, **({"chosen": chosen} if self.whole.resume is None else {})}


@contextmanager
def compose_command(overrides: Any, data: Any) -> Iterator[PythonCommand]:
    """Compose overrides as `train` does, and keep its log lines.

    Args:
        overrides: texts such as `model=tiny`; `resume=` too.
        data: rows, which take the place of `data.path`; None leaves it.

    Raises:
        ConfigError: all problems at once.
        UserError: these are no overrides of a single run, or no rows.
    """
    words = _check_words(overrides)
    lines = MemoryHandler(sys.maxsize, flushLevel=sys.maxsize, flushOnClose=False)
    with show_log(), _handled_by(lines):
        given = [*words, *(_data_words(words, data) if data is not None else ())]
        composed = resolve_resume(given)
        for note in composed.notes:
            LOGGER.info(note)
        rows = ", data=..." if data is not None else ""
        if composed.whole.hydra.mode == RunMode.MULTIRUN:
            raise UserError(
                f"{' '.join(words)} means several runs, a sweep: compose them one by one, or use `gptlab train` in a "
                "terminal"
            )
        try:
            yield PythonCommand(f"Run.compose({words!r}{rows}).train()", composed.whole, lines)
        except UserError as error:
            if not str(error).startswith("row ") or "data=text" in words or "data=text" not in given:
                raise
            raise UserError(f"{error}, or say with data=csv, chat or preferences what the rows are") from error


@contextmanager
def show_log() -> Iterator[None]:
    """Print gptlab's log lines, if the program has set up no logging.

    A program with handlers of its own keeps them and gets the lines, at the level that it gave the logger `gptlab`.
    """
    # rich would print each line as a block of its own in a notebook
    console = logging.StreamHandler(sys.stdout) if rich.get_console().is_jupyter else ConsoleHandler()
    level = LOGGER.level
    if level == logging.NOTSET and LOGGER.getEffectiveLevel() > logging.INFO:
        LOGGER.setLevel(logging.INFO)
    try:
        if LOGGER.hasHandlers():
            yield
        else:
            with _handled_by(console):
                yield
    finally:
        LOGGER.setLevel(level)


@contextmanager
def training_scope(cfg: Config, command: PythonCommand | None) -> Iterator[None]:
    """Set the precision, lock the folder and write the log of a run that trains.

    Args:
        command: as for `keep_files`.

    Raises:
        UserError: the folder belongs to another run, or there is too little memory.
    """
    with (
        float32_matmul_precision(cfg.trainer.precision, cfg.trainer.accelerator),
        enough_memory(MEMORY_REMEDY),
        training_folder(Path(cfg.output_dir), resumes=cfg.resume is not None),
        keep_files(command, cfg),
    ):
        yield


@contextmanager
def keep_files(command: PythonCommand | None, cfg: Config) -> Iterator[None]:
    """Write `train.log` and `.hydra/` while a run from Python trains.

    Args:
        command: None for a run of the command line, whose files Hydra writes.

    Raises:
        KeyboardInterrupt: after Ctrl-C, with the call that resumes; a command exits instead.
    """
    if command is None:
        yield
        return
    folder = Path(cfg.output_dir)
    config = folder / command.whole.hydra.output_subdir
    config.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(command.cfg, config / "config.yaml")
    OmegaConf.save(command.whole.hydra, config / "hydra.yaml")
    OmegaConf.save(command.whole.hydra.overrides.task, config / "overrides.yaml")
    file = logging.FileHandler(folder / "train.log", encoding="utf-8")
    file.setFormatter(logging.Formatter(LOG_FORMAT))
    command.lines.setTarget(file)
    command.lines.flush()
    try:
        with _handled_by(file), discard_config_on_failure(cfg.resume, config):
            yield
    except SystemExit as end:
        if end.code != INTERRUPTED:
            raise
        resume = f"Run.compose(['resume={folder}']).train()"
        raise KeyboardInterrupt(f"the run was saved; resume it with {resume}") from None
    finally:
        file.close()


def check_trains(cfg: Config, *, composed: bool) -> None:
    """Raise a UserError for an opened run, or several devices in a notebook.

    The other devices' processes start the program again, and a notebook is not a program that can be started.
    """
    if not composed:
        raise UserError(
            "an opened run cannot be trained: resume it with Run.compose(['resume=FOLDER']), or start from its weights "
            "with Run.compose(['weights=run', 'weights.run=FOLDER'])"
        )
    n_devices = count_devices(cfg.trainer.accelerator, cfg.trainer.devices)
    if hasattr(sys, "ps1") and n_devices > 1 and cfg.trainer.strategy in ("auto", "ddp"):
        raise UserError(
            f"trainer.devices={cfg.trainer.devices} needs a process for each device, which a notebook cannot start: "
            "give trainer.devices=1, or train with `gptlab train` in a terminal"
        )


def _check_words(overrides: Any) -> list[str]:
    """Return the overrides of a single run.

    Raises:
        UserError: they are something else.
    """
    if isinstance(overrides, str) or not isinstance(overrides, Sequence):
        raise UserError(f"Run.compose got {overrides!r:.80}, wanted a list of overrides such as ['model=tiny']")
    for word in overrides:
        if not isinstance(word, str):
            raise UserError(f"{word!r:.80} is not an override: give a text such as 'model=tiny'")
        if word.startswith("-"):
            raise UserError(f"{word} is an option of the command line: Run.compose takes key=value")
    return list(overrides)


def _data_words(words: list[str], rows: Any) -> Iterator[str]:
    """Yield the overrides that stand for rows from memory.

    Without a `data=` among the words, the rows are texts.

    Raises:
        UserError: the overrides name other data too, or do not say which kind of data the rows are.
    """
    if path := next((word for word in words if word.startswith("data.path=")), None):
        raise UserError(f"{path} and data= both name the data: leave one out")
    field = next((word.partition("=")[2] for word in reversed(words) if word.startswith(TEXT_FIELDS)), "text")
    path = store_rows(rows, text_field=field)
    if not any(word.startswith(("data=", "experiment=", "resume=")) for word in words):
        yield "data=text"
    yield f"data.path={path}"


@contextmanager
def _handled_by(handler: logging.Handler) -> Iterator[None]:
    LOGGER.addHandler(handler)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
