"""gptlab train key=value ...: train a run, or several with -m."""

import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from gptlab.commands.cli import version_line
from gptlab.commands.errors import report_errors
from gptlab.commands.memory import keep_freed_memory
from gptlab.commands.terminal import escape_unencodable
from gptlab.config.compose import ConfigError, check_composes, write_free_keys
from gptlab.config.hydra_internals import register_plugins, run_command_line, run_job
from gptlab.config.manual.hints import answer_foreign_words
from gptlab.config.manual.pages import train_page
from gptlab.config.resume import FOLDER_KEYS, TrainCommand, discard_config_on_failure, resolve_resume
from gptlab.config.run_paths import name_runs
from gptlab.storage.run_folder import begin_run, is_main_process
from gptlab.sweeps.grid import check_job, check_jobs, check_leaderboard, check_single, skips_invalid, sweep_jobs
from gptlab.sweeps.interruption import stoppable_sweep
from gptlab.sweeps.jobs import Outcome, run_sweep_job
from gptlab.sweeps.launchers.cluster import SubmititLocal, SubmititSlurm
from gptlab.sweeps.launchers.command import check_launcher
from gptlab.sweeps.launchers.local import Processes
from gptlab.sweeps.search.command import check_search
from gptlab.sweeps.search.pruning import trial_judge
from gptlab.sweeps.search.sweeper import Search

if TYPE_CHECKING:
    from gptlab.training.context import IsHopeless


def main(overrides: list[str] | None = None) -> float | None:
    """Train a run or sweep; return the monitored metric's best value.

    Args:
        overrides: None reads them from the command line.

    Raises:
        SystemExit: 1 after a user's mistake, 130 after Ctrl-C.
    """
    escape_unencodable()
    words, argv = sys.argv[1:] if overrides is None else overrides, sys.argv
    with report_errors():
        if any(word in ("--help", "-h") for word in words):
            print(train_page(words))
            return None
        if "--version" in words:  # Hydra would print its own
            print(version_line())
            return None
        words, single = _checked(words)
    task = Task(argv, words)
    try:
        if single is not None:
            with report_errors():
                _run_in_folder(single, task)
        else:
            register_plugins(Search, Processes, SubmititLocal, SubmititSlurm)
            with stoppable_sweep():
                run_command_line(words, task)
    finally:
        sys.argv = argv
    return task.best


class Task:
    """What Hydra runs: a single run, or a job of a sweep.

    A launcher sends it to the processes of its jobs.
    """

    def __init__(self, argv: list[str], words: list[str]) -> None:
        self.argv, self.words = argv, words
        self.best: float | None = None  # of a single run

    def __call__(self, cfg: DictConfig) -> float:
        """Train, and return the monitored metric's best value."""
        keep_freed_memory()
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            return _sweep_job(cfg)
        sys.argv = _restart_command(self.argv, self.words)
        self.best = _single_run(cfg)
        return self.best


def _checked(words: list[str]) -> tuple[list[str], TrainCommand | None]:
    """Return the words for Hydra, and a single run's checked command.

    Raises:
        UserError: all problems at once, before a folder is created.
    """
    if sentences := answer_foreign_words(words, root="train")[0]:
        raise ConfigError(sentences)
    if any(word.startswith(("-", "sweep=")) for word in words):  # Hydra composes it itself
        words = write_free_keys("train", words)
    check_launcher(words)
    check_leaderboard(words)
    if check_search(words):
        words, notes = name_runs(words)
        _print_notes(notes)
        return sorted(words, key=lambda word: not word.startswith("-")), None
    if jobs := sweep_jobs(words):
        words, notes = name_runs(words)
        check_jobs(sweep_jobs(words) if notes else jobs, skip_invalid=skips_invalid(words))
        _print_notes(notes)
        return sorted(words, key=lambda word: not word.startswith("-")), None  # Hydra wants -m before all or after all
    if "--cfg" in words or "-c" in words:
        check_composes("train", [word for word in words if re.match(r"[^-].*=|[~+]", word)])
    if any(word.startswith("-") for word in words):  # --cfg and its like are Hydra's
        return words, None
    command = resolve_resume(words)
    _print_notes(command.notes)
    if command.whole.hydra.mode == RunMode.MULTIRUN:
        return command.words, None
    check_single(command.words)
    return command.words, command


def _print_notes(notes: list[str]) -> None:
    print(*notes, sep="\n", end="\n" if notes else "", flush=True)


def _run_in_folder(command: TrainCommand, job: Callable[[DictConfig], float]) -> None:
    """Run a job in a folder of its own, kept only if training begins."""
    whole = command.whole
    with begin_run(Path(whole.output_dir), dated=command.dated, resumes=whole.resume is not None) as folder:
        whole.output_dir = whole.hydra.run.dir = str(folder)
        run_job(whole, job)


def _sweep_job(cfg: DictConfig) -> float:
    """Train one job of a sweep.

    Its user errors do not end the other jobs.
    """
    with report_errors():
        return run_sweep_job(cfg, report_errors()(_train_job))


def _single_run(cfg: DictConfig) -> float:
    """Train a single run, and print its summary."""
    if not is_main_process():
        logging.disable(logging.WARNING)  # only rank 0 logs
    hydra_cfg = HydraConfig.get()
    config_folder = Path(hydra_cfg.runtime.output_dir, str(hydra_cfg.output_subdir))
    with report_errors(), discard_config_on_failure(cfg.resume, config_folder):
        outcome = _train(cfg)
        _show(outcome)
    return outcome.value


def _restart_command(argv: list[str], words: list[str]) -> list[str]:
    """Return the command that Lightning runs for each further device.

    Its `resume=` is already resolved. Lightning adds the run's folder, with Hydra's key.
    """
    words = [word for word in words if word.partition("=")[0] not in FOLDER_KEYS]
    return [argv[0], *(["train"] if argv[1:2] == ["train"] else []), *words]


def _train_job(cfg: DictConfig) -> Outcome:
    check_job(cfg)  # only the combined configuration of the sweep was checked before
    return _train(cfg, trial_judge(HydraConfig.get()))


def _train(cfg: DictConfig, is_hopeless: "IsHopeless | None" = None) -> Outcome:
    from gptlab.run import Run  # torch takes seconds to import, and --help does not need it

    run = Run.compose(cfg)
    return Outcome(run.train(is_hopeless=is_hopeless), *run.head.monitor)


def _show(outcome: Outcome) -> None:
    import rich

    from gptlab.training.summary import show_summary

    show_summary(outcome.summary, rich.get_console())
