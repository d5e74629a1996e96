"""A run's row on TensorBoard's HPARAMS page."""

from pathlib import Path
from typing import Any

from gptlab.config.plain import Config, select
from gptlab.storage.run_folder import read_job_record

COMPARED_KEYS = (  # compared between runs that belong to no sweep
    "model.n_layers",
    "model.emb_dim",
    "model.context_length",
    "model.drop_rate",
    "data.batch_size",
    "optim.lr",
    "optim.weight_decay",
    "trainer.max_steps",
    "seed",
)


def hparams_values(cfg: Config) -> dict[str, Any]:
    """Return the values to compare runs by.

    In a sweep these are the keys that it varies, else the `COMPARED_KEYS`.
    """
    record = read_job_record(Path(cfg.output_dir))
    varies = record["varies"] if record else {}
    values = {key: select(cfg, key) for key in varies or COMPARED_KEYS}
    plain = {key: value for key, value in values.items() if isinstance(value, int | float | str)}
    return varies | plain  # choices of groups and lists appear as typed
