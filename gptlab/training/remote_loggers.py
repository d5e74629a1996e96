"""Loggers to Weights & Biases and to MLflow.

Both are Lightning's own, with the run's texts, pictures and hyperparameters, and with a remote run that a resumed run
continues. What was logged after the checkpoint that a run resumes from stays there and appears a second time: neither
service takes a step back.
"""

import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from lightning.pytorch.loggers import MLFlowLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from gptlab.errors import NoConnectionError, UserError
from gptlab.slots import slot
from gptlab.storage.atomic import atomic_write
from gptlab.training.context import RunContext

REMOTE_RUNS = "remote_runs.json"  # in the run folder: logger -> id of the remote run
MAX_PARAMETER_CHARACTERS = 500  # of a parameter's value in MLflow


class WandbRun(WandbLogger):
    """Lightning's Weights & Biases logger, with texts, pictures and hyperparameters."""

    @rank_zero_only
    def write_text(self, tag: str, text: str, step: int) -> None:
        """Log a text, shown as it is."""
        import wandb

        self.experiment.log({tag: wandb.Html(f"<pre>{html.escape(text)}</pre>"), "trainer/global_step": step})

    @rank_zero_only
    def write_picture(self, tag: str, picture: np.ndarray, step: int) -> None:
        """Log a picture, (height, width, 3) uint8."""
        self.log_image(tag, [picture], step)

    @rank_zero_only
    def write_hyperparams(self, values: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Write the values by which runs are compared, and what they led to."""
        self.experiment.config.update(dict(values), allow_val_change=True)
        self.experiment.summary.update(dict(metrics))

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End the remote run, so that the next run of this process begins its own."""
        super().finalize(status)
        if self._experiment is not None:
            self._experiment.finish(exit_code=int(status != "success"))
            self._experiment = None


class MLflowRun(MLFlowLogger):
    """Lightning's MLflow logger, with texts, pictures and hyperparameters."""

    @rank_zero_only
    def write_text(self, tag: str, text: str, step: int) -> None:
        """Store a text as an artifact of the run."""
        self.experiment.log_text(self.run_id, text, f"{tag}/step_{step:08d}.txt")

    @rank_zero_only
    def write_picture(self, tag: str, picture: np.ndarray, step: int) -> None:
        """Log a picture, (height, width, 3) uint8."""
        self.experiment.log_image(self.run_id, picture, key=tag, step=step)

    @rank_zero_only
    def write_hyperparams(self, values: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Write the values by which runs are compared, and what they led to."""
        known = self.experiment.get_run(self.run_id).data.params  # MLflow refuses to change a parameter
        for name, value in values.items():
            if name not in known:
                self.experiment.log_param(self.run_id, name, str(value)[:MAX_PARAMETER_CHARACTERS])
        for name, number in metrics.items():
            self.experiment.log_metric(self.run_id, name, number)


@slot("logger.*")
def wandb(context: RunContext, *, project: str, entity: str | None, mode: Literal["online", "offline"]) -> WandbRun:
    """Return a logger that writes to Weights & Biases.

    Args:
        project: name of the project; it is made if it does not exist.
        entity: user or team that the project belongs to; None for the account's own.
        mode: `offline` writes to the run folder only, from which `wandb sync` uploads.

    Raises:
        UserError: the package is missing, or the service cannot be reached or refuses the account.
    """
    _check_installed("wandb")
    from wandb.errors import Error, UsageError

    remote = _remote_run(context, "wandb")
    logger = WandbRun(
        name=_run_name(context.folder),
        save_dir=context.folder,
        id=remote,
        project=project,
        entity=entity,
        mode=mode,  # not `offline=True`, which would set the mode of the whole process
        resume="allow",
    )
    try:
        began = logger.experiment
    except UsageError as error:
        raise UserError(
            f"Weights & Biases refuses to start a run ({error}): run `wandb login`, or give logger.wandb.mode=offline"
        ) from error
    except Error as error:
        raise NoConnectionError(
            f"Weights & Biases cannot be reached ({error}): try again, or give logger.wandb.mode=offline"
        ) from error
    _keep_remote_run(context, "wandb", began.id)
    return logger


@slot("logger.*")
def mlflow(context: RunContext, *, experiment: str, tracking_uri: str | None) -> MLflowRun:
    """Return a logger that writes to MLflow.

    Args:
        experiment: name of the experiment; it is made if it does not exist.
        tracking_uri: address of a server or a database; None is MLflow's own choice: `MLFLOW_TRACKING_URI` of the
            environment, else the database `mlflow.db` here.

    Raises:
        UserError: the package is missing, or the server cannot be reached.
    """
    _check_installed("mlflow")
    from mlflow import get_tracking_uri
    from mlflow.exceptions import MlflowException

    remote = _remote_run(context, "mlflow")
    try:
        address = tracking_uri or get_tracking_uri()
        logger = MLflowRun(experiment, _run_name(context.folder), address, run_id=remote)
        began = logger.run_id
        if remote:
            logger.experiment.update_run(remote, status="RUNNING")
    except (MlflowException, OSError) as error:
        raise NoConnectionError(
            f"MLflow cannot be used ({error}): check logger.mlflow.tracking_uri, or leave logger=mlflow out"
        ) from error
    _keep_remote_run(context, "mlflow", str(began))
    return logger


def _check_installed(package: str) -> None:
    """Raise a UserError if a logger's package is missing."""
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise UserError(f'logger={package} needs the package {package}: pip install "gptlab[{package}]"')


def _run_name(folder: Path) -> str:
    """Return the name of a run among others, such as `gpt/2026-11-30_02-05-17`."""
    return "/".join(folder.absolute().parts[-2:])


def _remote_run(context: RunContext, logger: str) -> str | None:
    """Return the id of the remote run to continue, None for a new run."""
    path = context.folder / REMOTE_RUNS
    if context.start_step == 0 or not path.is_file():
        return None
    ids = json.loads(path.read_text(encoding="utf-8"))
    return ids[logger] if isinstance(ids, dict) and isinstance(ids.get(logger), str) else None


@rank_zero_only
def _keep_remote_run(context: RunContext, logger: str, remote: str) -> None:
    path = context.folder / REMOTE_RUNS
    ids = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    atomic_write(path, json.dumps({**ids, logger: remote}) + "\n")
