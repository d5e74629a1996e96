"""Names of jobs: what a folder, a shell and TensorBoard show of a job."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gptlab.sweeps.names import job_name, recorded_keys, short_keys, varied_values

NAMES: dict[str, tuple[int, dict[str, Any]]] = {
    "003_lr-0.01_n_layers-2": (3, {"optim.lr": 0.01, "model.n_layers": 2}),
    "000": (0, {}),
    "1234_seed-1": (1234, {"seed": 1}),
    "001_lr-1e-05_drop_rate-0.1235": (1, {"optim.lr": 1e-5, "model.drop_rate": 0.12345678}),
    "002_model-tiny_qkv_bias-true": (2, {"model": "tiny", "model.qkv_bias": True}),
    "004_data.path-verdict.txt_weights.path-base": (
        4,
        {"data.path": "/my/the verdict.txt/../verdict.txt", "weights.path": "runs/base/"},
    ),
    "005_reader-csv_layers-1-2_experiment-null": (5, {"data/reader": "csv", "a.layers": [1, 2], "experiment": None}),
    "006_prompt-a-b-": (6, {"sampling.prompt": "a ${b}"}),
    "007_x-1e30_y--3": (7, {"x": 1e30, "y": -3}),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_has_the_number_and_what_varies(name: str) -> None:
    assert job_name(*NAMES[name]) == name


def test_a_name_needs_no_quotes_and_is_short() -> None:
    hostile = {f"group.a rather long key {n}": "äöü/'\"$(rm)`;\n" + "x" * 100 for n in range(9)}
    name = job_name(12, hostile)
    assert re.fullmatch(r"012_[A-Za-z0-9._-]+", name)
    assert len(name) <= 80
    assert job_name(12, hostile) == name
    assert job_name(13, hostile) != name


def test_a_key_is_short_unless_another_ends_alike() -> None:
    assert short_keys(["optim.lr", "data/reader", "seed"]) == {
        "optim.lr": "lr",
        "data/reader": "reader",
        "seed": "seed",
    }
    assert short_keys(["a.path", "b.path"]) == {"a.path": "a.path", "b.path": "b.path"}


def test_values_have_their_types_and_keys_the_order_of_the_command(tmp_path: Path) -> None:
    task = ["model=tiny,mini", "seed=7", "optim.lr=interval(1e-3,1e-1)", "+a.b=[1,2],[3]"]
    hydra = {"sweeper": {"params": {"data.batch_size": "2,4"}}, "overrides": {"task": task}}
    (tmp_path / "multirun.yaml").write_text(yaml.safe_dump({"hydra": hydra}), encoding="utf-8")
    keys = recorded_keys(tmp_path)
    assert keys == ["data.batch_size", "model", "optim.lr", "a.b"]
    job = ["data.batch_size=2", "model=tiny", "seed=7", "optim.lr=0.0123", "+a.b=[1,2]"]
    assert varied_values(keys, job) == {"data.batch_size": 2, "model": "tiny", "optim.lr": 0.0123, "a.b": [1, 2]}
    assert varied_values(["x"], ["x=inf"]) == {"x": "inf"}, "JSON has no infinity"
    assert recorded_keys(tmp_path / "none") == []
