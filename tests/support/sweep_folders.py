"""Folders of sweeps as they are after training, without any training."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gptlab.storage.run_folder import write_job_record


def write_job(
    sweep: Path,
    number: int,
    varies: Mapping[str, Any],
    value: float | None,
    *,
    status: str = "finished",
    folder: str = "",
    mode: str = "min",
    common: Sequence[str] = ("model=tiny",),
    metrics: Mapping[str, Any] | None = None,
    **summary: Any,
) -> Path:
    """Write the folder of a job: its record, and with a value its summary."""
    job = sweep / (folder or str(number))
    job.mkdir(parents=True)
    overrides = [*common, *(f"{key}={value}" for key, value in varies.items())]
    record: dict[str, Any] = {"job": number, "status": status, "overrides": overrides, "varies": dict(varies)}
    monitor = "val/loss" if mode == "min" else "val/accuracy"
    if status == "failed":
        record["error"] = "model.n_heads is 3: choose another"
    elif value is not None:
        record |= {"monitor": monitor, "mode": mode, "value": value}
        found = {monitor: value, **(metrics or {})}
        whole = {
            "status": status,
            "folder": str(job),
            "steps": 100,
            "tokens": 51_200,
            "seconds": 12.5,
            "tokens_per_second": 4096.0,
            "total_seconds": 20.0,
            "parameters": 800_000,
            "train": {name.replace("val/", "train/"): 1.0 for name in found},
            "val": found,
            "best": found,
            "best_step": 100,
            "monitor": monitor,
            "next_command": f"gptlab generate run={job} prompt='Once upon'",
            "tensorboard": True,
        }
        (job / "summary.json").write_text(json.dumps(whole | summary), encoding="utf-8")
    write_job_record(job, record)
    return job
