"""One job of a sweep.

Jobs may run in separate processes, so they exchange information through files.
"""

import gc
import logging
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from gptlab.config.admission import load
from gptlab.config.compose import ConfigError
from gptlab.errors import UserError
from gptlab.storage.run_folder import JOB_RECORD, discard_unbegun, read_job_record, trained_metrics, write_job_record
from gptlab.sweeps.names import N_DIGITS, recorded_keys, varied_values

log = logging.getLogger(__name__)

KEPT_FILES = {".hydra", "train.log", ".lock", JOB_RECORD}  # written before training, so kept when a job starts again
WORST_VALUE = 1.0e9


class Outcome(NamedTuple):
    """The result of one job's training."""

    summary: dict[str, Any]  # as in summary.json
    monitor: str  # the head's own metric
    mode: Literal["min", "max"]  # min: lower is better; max: higher is better

    @property
    def value(self) -> float:
        """Return the monitored metric's best value after a step, see `trained_metrics`."""
        return float(trained_metrics(self.summary)[self.monitor])


def run_sweep_job(cfg: DictConfig, train: Callable[[DictConfig], Outcome]) -> float:
    """Run one job in its folder, and return its objective.

    A finished job is skipped, and an interrupted one is resumed.

    Args:
        train: its SystemExit with code 1 marks a user error that was printed; any other SystemExit ends the sweep.

    Returns:
        The job's objective; `WORST_VALUE` of a failed job, because a NaN would end an Optuna study.

    Raises:
        UserError: the folder holds another job, or another process is training in it.
    """
    job = HydraConfig.get()
    sweep, overrides = Path(job.sweep.dir), list(job.overrides.task)
    folder = sweep / str(job.sweep.subdir)
    if not is_unfinished(folder, job.job.num, overrides):
        return float(read_job_record(folder)["value"])
    record: dict[str, Any] = new_record(sweep, job.job.num, overrides)
    cfg.output_dir = str(folder)
    write_job_record(folder, record)
    try:
        if finished := _read_finished(cfg, folder):
            record |= _result(finished)
        else:
            from gptlab.sweeps.branches import begin_branch  # schedules are torch's, and --help does not need it

            cfg.resume = _find_checkpoint(folder) or begin_branch(cfg, folder, sweep)
            record |= _train(cfg, train)
    except BaseException:
        write_job_record(folder, record | {"status": "interrupted"})
        raise
    _free_memory()
    write_job_record(folder, record)
    if "value" not in record:
        return worst_value(job)
    log.info(f"job {record['job']}: {record['monitor']} {record['value']:.4g} at its best\n")
    return record["value"]


def new_record(sweep: Path, number: int, overrides: list[str]) -> dict[str, Any]:
    """Return the record of a job that begins."""
    varies = varied_values(recorded_keys(sweep), overrides)
    return {"job": number, "status": "running", "overrides": overrides, "varies": varies}


def is_unfinished(folder: Path, number: int, overrides: list[str]) -> bool:
    """Return whether a job still has to run.

    Raises:
        UserError: the folder is not this job's, or another process is training in it.
    """
    from rich import get_console

    from gptlab.console import print_text
    from gptlab.storage.run_folder import is_locked

    earlier = read_job_record(folder)
    if not earlier and (folder / "checkpoints").exists():
        raise UserError(f"{folder} holds a run that is not a job of a sweep: choose another hydra.sweep.dir")
    for other in {folder, *folder.parent.glob(f"{number:0{N_DIGITS}}_*")}:
        record = read_job_record(other)
        if record and sorted(record["overrides"]) != sorted(overrides):
            raise UserError(
                f"{other} holds another job ({' '.join(record['overrides'])}): choose another "
                "hydra.sweep.dir, or repeat the command of the sweep in it"
            )
    if "value" in earlier:  # printed, not logged: the files of a finished job do not change
        print_text(f"{folder} has finished already", get_console())
        return False
    if is_locked(folder):
        raise UserError(f"{folder} is being trained by another process: wait for it, or stop it first")
    return True


def _find_checkpoint(folder: Path) -> str | None:
    """Return the checkpoint to resume from.

    If none is intact, the files of the earlier attempt are deleted.
    """
    from gptlab.storage.run_folder import find_last

    if (folder / "checkpoints" / "last.ckpt").is_file():
        try:
            return str(find_last(folder))
        except UserError as error:
            log.warning(f"{error}\nthe job starts again")
    for path in folder.iterdir():
        if path.name not in KEPT_FILES:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return None


def _read_finished(cfg: DictConfig, folder: Path) -> Outcome | None:
    """Return the unrecorded result of a finished job.

    Its run was resumed by hand, or its process was killed before recording it. None for any other job.
    """
    from gptlab.storage.run_folder import FINISHED, read_summary

    summary = read_summary(folder)
    if summary.get("status") not in FINISHED:
        return None
    return Outcome(summary, *load(cfg.head._target_, "head").monitor)


def _train(cfg: DictConfig, train: Callable[[DictConfig], Outcome]) -> dict[str, Any]:
    """Train and return the result."""
    from gptlab.training.context import DivergedError

    try:
        return _result(train(cfg))
    except SystemExit as end:
        if end.code != 1:
            raise
        discard_unbegun(Path(cfg.output_dir), keep={JOB_RECORD})
        return _refusal(str(end.__context__), by_values=isinstance(end.__context__, ConfigError | DivergedError))
    except Exception as error:  # a bug, or out of memory: the other jobs may still succeed
        log.exception("the job failed")
        return {"status": "failed", "error": f"{type(error).__name__}: {error}"}


def _result(outcome: Outcome) -> dict[str, Any]:
    """Return the result for a job's record."""
    name, value = outcome.monitor, outcome.value
    if not math.isfinite(value):
        return _refusal(f"{name} is {value} at its best: lower optim.lr", by_values=True)
    return {"status": outcome.summary["status"], "monitor": name, "mode": outcome.mode, "value": value}


def _refusal(error: str, *, by_values: bool) -> dict[str, Any]:
    """Return the result of a job that failed by a user's error.

    Args:
        by_values: its values do not fit together or made it diverge, which a search expects of some.
    """
    return {"status": "failed", "error": error, **({"by_values": True} if by_values else {})}


def worst_value(job: Any) -> float:
    """Return an objective worse than any other, for Hydra's settings of a job or sweep."""
    return -WORST_VALUE if str(OmegaConf.select(job, "sweeper.direction")) == "maximize" else WORST_VALUE


def _free_memory() -> None:
    """Free the last job's memory.

    The next job may run in the same process.
    """
    gc.collect()  # a trainer, its module and its callbacks form reference cycles
    if "torch" in sys.modules:
        sys.modules["torch"].cuda.empty_cache()
    if "torch._dynamo" in sys.modules:
        sys.modules["torch._dynamo"].reset()
