"""A run's row on TensorBoard's HPARAMS page."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gptlab.config.plain import Config, select
from gptlab.storage.run_folder import read_job_record

CHOICES = ("model", "tokenizer", "data", "head", "weights", "tuning", "optim", "schedule", "experiment")
COMPARED_KEYS = (  # compared between runs that belong to no sweep
    "model.n_layers",
    "model.emb_dim",
    "model.context_length",
    "model.drop_rate",
    "data.batch_size",
    "optim.name",
    "optim.lr",
    "optim.weight_decay",
    "schedule.name",
    "trainer.max_steps",
    "seed",
)


def hparams_values(cfg: Config, chosen: Mapping[str, str]) -> dict[str, Any]:
    """Return the values to compare runs by.

    In a sweep these are the keys that it varies, else the choice from each of the `CHOICES` and the `COMPARED_KEYS`.

    Args:
        chosen: the choice of each group when the run began.
    """
    record = read_job_record(Path(cfg.output_dir))
    varies = record["varies"] if record else {}
    values = {key: select(cfg, key) for key in varies or COMPARED_KEYS}
    plain = {key: value for key, value in values.items() if isinstance(value, int | float | str)}
    if not varies:
        return main_choices(chosen) | plain
    return {key: _column_value(plain.get(key, value)) for key, value in varies.items()}


def _column_value(value: Any) -> bool | float | str:
    """Return a value as TensorBoard takes it; groups' choices and lists appear as typed.

    A null is a word, so that its column exists even if the first job has it.
    """
    return value if isinstance(value, bool | int | float | str) else str(json.dumps(value))


def main_choices(chosen: Mapping[str, str]) -> dict[str, str]:
    """Return the choices that tell runs apart, in the order of `CHOICES`."""
    return {group: chosen[group] for group in CHOICES if chosen.get(group, "None") not in ("None", "null")}
