"""Opening any mutated record or run folder works or gives a one-sentence error."""

import contextlib
import copy
import math
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from gptlab.config.resume import resolve_resume
from gptlab.errors import UserError
from gptlab.run import Run
from gptlab.storage.checkpoint import RECORD
from tests.conftest import TrainedRun

FEW, MANY = range(20), range(1500)  # seeds
ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**30, 0.5, -0.0, 1e400, math.nan),
    *(
        "",
        "???",
        "a",
        "null",
        "${seed}",
        "${oc.env:HOME}",
        "${nothing}",
        "\\${x}",
        "../../x",
        "/etc/passwd",
        "\0",
        "\u2028",
    ),
    *("https://localhost/x.txt", "package://os.path/x", "~nouser/x", "os.system", "gptlab.run.Run", "é" * 1000),
    *([], {}, [[]], [None], {"a": 1}, {"_target_": "os.mkdir", "path": "/tmp/gptlab-evil"}, {"_target_": None}),
    *({"_target_": "gptlab.heads.lm.LMHead"}, {"_partial_": 3}, [{"_target_": "pip.main"}], {"defaults": ["x"]}),
]
KEYS = ["_target_", "_partial_", "_args_", "_recursive_", "hydra", "defaults", "signature", "n_layers", "x.y", ""]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Return the path of every value in a record."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from places(item, (*path, i))


def mutate(record: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Replace, remove or extend one to three values of a record."""
    record = copy.deepcopy(record)
    for _ in range(rng.randint(1, 3)):
        *parents, key = rng.choice(sorted(places(record), key=repr) or [("empty",)])
        node: Any = record
        for parent in parents:
            node = node[parent]
        how, odd = rng.choice(["replace", "remove", "add"]), copy.deepcopy(rng.choice(ODD))
        if how == "replace":
            node[key] = odd
        elif how == "remove" and key != "empty":
            del node[key]
        elif isinstance(node, dict):
            node[rng.choice(KEYS)] = odd
        else:
            node.append(odd)
    return record


def open_it(folder: Path) -> None:
    """Run each command on a folder: it works or reports the problem."""
    for use in (
        lambda: Run.open(folder).generate("And", max_new_tokens=2, temperature=0),
        lambda: resolve_resume([f"resume={folder}", "trainer.max_steps=40", "data.path=x.txt"]),
    ):
        with contextlib.suppress(UserError, OSError):
            use()


@pytest.fixture(scope="module")
def content(tiny_run: TrainedRun) -> dict[str, Any]:
    return torch.load(tiny_run.folder / "checkpoints" / "last.ckpt", weights_only=True)


def check_record(content: dict[str, Any], folder: Path, seed: int) -> None:
    record = mutate(content[RECORD], random.Random(seed))
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    torch.save({**content, RECORD: record}, folder / "checkpoints" / "last.ckpt")
    before = sorted(folder.rglob("*"))
    open_it(folder)
    assert sorted(folder.rglob("*")) == before, f"seed {seed}"
    assert not Path("/tmp/gptlab-evil").exists(), f"seed {seed}"


def check_folder(run: Path, folder: Path, seed: int) -> None:
    """Damage, empty, remove or replace one to three files of a run."""
    rng = random.Random(seed)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(run, folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for _ in range(rng.randint(1, 3)):
        path = rng.choice(files)
        if not path.exists():
            continue
        old = path.read_bytes()
        at = rng.randint(0, max(0, len(old) - 1))
        how = rng.choice(["flip", "cut", "empty", "remove", "text", "other", "twice"])
        if how == "remove":
            path.unlink()
            continue
        flipped = old[:at] + bytes([old[at] ^ (1 << rng.randint(0, 7))]) + old[at + 1 :] if old else b"x"
        other = rng.choice(files)
        path.write_bytes(
            {
                "flip": flipped,
                "cut": old[:at],
                "empty": b"",
                "text": b"[" * 10_000,
                "other": other.read_bytes() if other.exists() else b"\xff",
                "twice": old + old,
            }[how]
        )
        if rng.random() < 0.5:  # or the checksum beside it tells every other change
            path.with_name(path.name + ".sha256").unlink(missing_ok=True)
    open_it(folder)


@pytest.mark.parametrize("seeds", [FEW, pytest.param(MANY, marks=pytest.mark.slow)], ids=["few", "many"])
def test_any_mutated_record_works_or_is_reported(content: dict[str, Any], tmp_path: Path, seeds: range) -> None:
    for seed in seeds:
        check_record(content, tmp_path, seed)


@pytest.mark.parametrize("seeds", [FEW, pytest.param(MANY, marks=pytest.mark.slow)], ids=["few", "many"])
def test_any_mutated_folder_works_or_is_reported(tiny_run: TrainedRun, tmp_path: Path, seeds: range) -> None:
    for seed in seeds:
        check_folder(tiny_run.folder, tmp_path / "run", seed)
