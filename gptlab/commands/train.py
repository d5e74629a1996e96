"""gptlab train key=value ...: train a run, or several with -m."""

import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from gptlab.commands.errors import report_errors
from gptlab.commands.memory import keep_freed_memory
from gptlab.config.compose import check_composes, our_hydra
from gptlab.config.manual import manual
from gptlab.config.resume import attempt, resumption
from gptlab.config.schema import register_schemas
from gptlab.storage.places import conf_dir
from gptlab.sweeps.jobs import Outcome, check_job, check_jobs, run_job, sweep_jobs

if TYPE_CHECKING:
    from gptlab.run import Run

log = logging.getLogger(__name__)


def main(overrides: list[str] | None = None) -> float | None:
    """Train what the overrides describe; return the best value of the monitored metric.

    Args:
        overrides: None for those of the command line.

    Raises:
        SystemExit: 1 after a user's mistake, 130 after Ctrl-C.
    """
    words, argv = sys.argv[1:] if overrides is None else overrides, sys.argv
    if any(word in ("--help", "-h") for word in words):
        with report_errors():
            print(manual(), flush=True)
        return None
    keep_freed_memory()
    with report_errors():
        words, whole = _checked(words)
    best: list[float] = []

    def job(cfg: DictConfig) -> float:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            return _sweep_job(cfg)
        sys.argv = _restart_command(argv, words)
        best.append(_single_run(cfg))
        return best[-1]

    try:
        if whole is not None:
            with report_errors():
                _run(whole, job)
        else:
            register_schemas()
            GlobalHydra.instance().clear()
            sys.argv = [sys.argv[0], *words]  # from where Hydra reads
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")(job)()
    finally:
        sys.argv = argv
    return best[-1] if best else None


def _checked(words: list[str]) -> tuple[list[str], DictConfig | None]:
    """Return the words for Hydra, and the whole configuration of a single run, composed and checked.

    Raises:
        UserError: every mistake at once, before there is a folder.
    """
    if jobs := sweep_jobs(words):
        check_jobs(jobs)
        return sorted(words, key=lambda word: not word.startswith("-")), None  # Hydra wants -m before all or after all
    if "--cfg" in words or "-c" in words:
        check_composes("train", [word for word in words if re.match(r"[^-].*=|[~+]", word)])
    if any(word.startswith("-") for word in words):  # --cfg and its like are Hydra's
        return words, None
    found = resumption(words)
    print(*found.notes, sep="\n", end="\n" if found.notes else "")
    return found.words, found.whole if found.whole.hydra.mode != RunMode.MULTIRUN else None


def _sweep_job(cfg: DictConfig) -> float:
    """Train one job of a sweep; its mistake does not end the others."""
    with report_errors():
        return run_job(cfg, report_errors()(_train_job))


def _single_run(cfg: DictConfig) -> float:
    """Train a run of its own, and show its summary."""
    if int(os.environ.get("LOCAL_RANK", 0)):
        logging.disable(logging.WARNING)  # only rank 0 logs
    hydra_cfg = HydraConfig.get()
    with report_errors(), attempt(cfg.resume, Path(hydra_cfg.runtime.output_dir, str(hydra_cfg.output_subdir))):
        outcome = _train(cfg)
        _show(outcome)
    return outcome.value


def _run(whole: DictConfig, job: Callable[[DictConfig], float]) -> None:
    """Run a job as hydra.main does, on the configuration that was checked instead of composing it again."""
    with our_hydra():
        hydra_itself = cast(Any, GlobalHydra.instance().hydra)
        hydra_itself.compose_config = lambda **_: whole
        try:
            hydra_itself.run(None, job, [])
        except OSError as error:  # the job tells its own
            raise OSError(f"the run's folder cannot be made ({error}): choose another output_dir") from error


def _restart_command(argv: list[str], words: list[str]) -> list[str]:
    """Return the command by which Lightning starts a process for each further device, `resume=` already resolved."""
    return [argv[0], *(["train"] if argv[1:2] == ["train"] else []), *words]


def _train_job(cfg: DictConfig) -> Outcome:
    check_job(cfg)  # only the combined configuration of the sweep was checked before
    return _train(cfg)


def _train(cfg: DictConfig) -> Outcome:
    from gptlab.run import Run  # torch takes seconds to import, and --help needs none of it

    run = Run.compose(cfg)
    _introduce(run)
    return Outcome(run.train(), *run.head.monitor)


def _show(outcome: Outcome) -> None:
    import rich

    from gptlab.training.summary import show_summary

    show_summary(outcome.summary, rich.get_console())


def _introduce(run: "Run") -> None:
    """Log the size of the model, the data and the folder."""
    from gptlab.run import count_parameters

    assert run.data is not None
    n_all, n_learning = count_parameters(run), count_parameters(run, learning=True)
    learning = f" ({n_learning:,} trainable, {n_learning / n_all:.2%})" if n_learning < n_all else ""
    log.info(
        f"{run.cfg.name}: {n_all:,} parameters{learning} in {run.model.n_layers} layers "
        f"of width {run.model.emb_dim}, context {run.model.context_length}, vocabulary {run.tokenizer.vocab_size:,}"
    )
    log.info(run.data.summary_line())
    log.info(f"writing to {run.cfg.output_dir}\n")
