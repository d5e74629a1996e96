"""Jobs of a sweep that share their first steps.

A schedule that warms up, stays and decays takes the same steps before its decay whatever the run's length. So a job
that differs from another one in nothing but its length begins where that one's decay began, from its `stable.ckpt`: the
same numbers as a run of its own, at the cost of the rest (arXiv 2404.06395 and 2405.18392).
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from gptlab.config.build import build
from gptlab.config.plain import Config, flat, resolved, select
from gptlab.errors import UserError
from gptlab.training.schedules import n_shared_steps

log = logging.getLogger(__name__)

STABLE = Path("checkpoints", "stable.ckpt")
SWITCH = "callbacks.last_checkpoint.stable"
MAY_DIFFER = ("output_dir", "resume", "trainer.max_steps", "trainer.val_check_interval")


class Branch(NamedTuple):
    """A checkpoint that another job may begin from."""

    folder: Path  # of the job that wrote it
    step: int


def begin_branch(cfg: DictConfig, folder: Path, jobs: Path) -> str | None:
    """Give a new job the state that it shares with another one; return its checkpoint.

    None if there is none: no other job has the same configuration, or none has come so far.

    Args:
        folder: the job's.
        jobs: the sweep's, with the folders of all jobs.
    """
    config = resolved(cfg)
    if not select(config, SWITCH):
        return None
    for branch in sorted(_branches(config, folder, jobs), key=lambda branch: -branch.step):
        try:
            _copy(branch, folder)
        except (OSError, UserError) as error:
            log.warning(f"{error}\nthe job does not begin from it")
            continue
        log.info(f"the first {branch.step:,} steps are those of {branch.folder}, and are not repeated")
        return str(folder / "checkpoints" / "last.ckpt")
    return None


def _branches(config: Config, folder: Path, jobs: Path) -> Iterator[Branch]:
    """Yield the other jobs' checkpoints that the job's own run would pass through."""
    if not (limit := _n_shared(config)):
        return
    for checkpoint in jobs.glob(f"*/{STABLE}"):
        other = checkpoint.parents[1]
        written = other / ".hydra" / "config.yaml"
        if other == folder or not written.is_file():
            continue
        theirs = resolved(_read(written))
        if _fixed(theirs) == _fixed(config) and 0 < (step := _n_shared(theirs)) <= limit:
            yield Branch(other, step)


def _read(path: Path) -> DictConfig:
    read: Any = OmegaConf.load(path)
    return read


def _fixed(config: Config) -> dict[str, Any]:
    """Return what two jobs have to have in common."""
    return {key: value for key, value in flat(config) if key not in MAY_DIFFER}


def _n_shared(config: Config) -> int:
    """Return the steps that a job shares with longer ones; 0 if epochs decide its length."""
    length = config.trainer.max_steps
    if length is None or config.trainer.max_epochs is not None:
        return 0
    return n_shared_steps(build(config.schedule, "schedule"), length)


def _copy(branch: Branch, folder: Path) -> None:
    """Write another job's checkpoint as this one's last.

    Raises:
        UserError: it is damaged, or of another step.
    """
    from gptlab.storage.checkpoint import read_checkpoint, write_checkpoint
    from gptlab.training.callbacks.checkpoints import BestCheckpoint

    content = read_checkpoint(branch.folder / STABLE, mmap=True)
    if content.get("global_step") != branch.step:
        raise UserError(f"{branch.folder / STABLE} is of step {content.get('global_step')}, wanted {branch.step}")
    callbacks = content["callbacks"]  # best.ckpt lies in the other folder, so the search for the best begins anew
    kept = {name: state for name, state in callbacks.items() if name != BestCheckpoint.__qualname__}
    write_checkpoint(content | {"callbacks": kept}, folder / "checkpoints" / "last.ckpt")
