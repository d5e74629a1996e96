"""A run's row on TensorBoard's HPARAMS page."""

from pathlib import Path
from typing import Any

from gptlab.config.plain import Config, select
from gptlab.storage.run_folder import read_job_record

USUAL = (  # what one compares runs by that are of no sweep
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
    """Return the values that tell a run from others: in a sweep the keys it varies, else the usual ones."""
    record = read_job_record(Path(cfg.output_dir))
    varies = record["varies"] if record else {}
    values = {key: select(cfg, key) for key in varies or USUAL}
    plain = {key: value for key, value in values.items() if isinstance(value, int | float | str)}
    return varies | plain  # the name of a choice, or a list, as it was typed
