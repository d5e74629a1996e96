"""Opening any mutated record or run folder works or gives a one-sentence error."""

import contextlib
import copy
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gptlab.config.resume import resolve_resume
from gptlab.errors import UserError
from gptlab.run import Run
from gptlab.storage.checkpoint import RECORD
from tests.conftest import TrainedRun

SETTINGS: dict[str, Any] = {
    "derandomize": True,
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "database": None,
}
FEW, MANY = settings(max_examples=20, **SETTINGS), settings(max_examples=1500, **SETTINGS)
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


def mutate(record: dict[str, Any], draw: Callable[..., Any]) -> dict[str, Any]:
    """Replace, remove or extend one to three values of a record."""
    record = copy.deepcopy(record)
    for _ in range(draw(st.integers(1, 3))):
        *parents, key = draw(st.sampled_from(sorted(places(record), key=repr)))
        node: Any = record
        for parent in parents:
            node = node[parent]
        how, odd = draw(st.sampled_from(["replace", "remove", "add"])), copy.deepcopy(draw(st.sampled_from(ODD)))
        if how == "replace":
            node[key] = odd
        elif how == "remove":
            del node[key]
        elif isinstance(node, dict):
            node[draw(st.sampled_from(KEYS))] = odd
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


def check_records(content: dict[str, Any], folder: Path, data: st.DataObject) -> None:
    record = mutate(content[RECORD], data.draw)
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    torch.save({**content, RECORD: record}, folder / "checkpoints" / "last.ckpt")
    before = sorted(folder.rglob("*"))
    open_it(folder)
    assert sorted(folder.rglob("*")) == before
    assert not Path("/tmp/gptlab-evil").exists()


def check_folders(run: Path, folder: Path, data: st.DataObject) -> None:
    """Damage, empty, remove or replace one to three files of a run."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(run, folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(files))
        if not path.exists():
            continue
        old = path.read_bytes()
        at = data.draw(st.integers(0, max(0, len(old) - 1)))
        how = data.draw(st.sampled_from(["flip", "cut", "empty", "remove", "text", "other", "twice"]))
        if how == "remove":
            path.unlink()
            continue
        flipped = old[:at] + bytes([old[at] ^ (1 << data.draw(st.integers(0, 7)))]) + old[at + 1 :] if old else b"x"
        other = data.draw(st.sampled_from(files))
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
        if data.draw(st.booleans()):  # or the checksum beside it tells every other change
            path.with_name(path.name + ".sha256").unlink(missing_ok=True)
    open_it(folder)


@FEW
@given(data=st.data())
def test_any_mutated_record_works_or_is_reported(
    content: dict[str, Any], tmp_path_factory: Any, data: st.DataObject
) -> None:
    check_records(content, tmp_path_factory.getbasetemp() / "mutated-record", data)


@FEW
@given(data=st.data())
def test_any_mutated_folder_works_or_is_reported(
    tiny_run: TrainedRun, tmp_path_factory: Any, data: st.DataObject
) -> None:
    check_folders(tiny_run.folder, tmp_path_factory.getbasetemp() / "mutated-folder", data)


@pytest.mark.slow
@MANY
@given(data=st.data())
def test_records_at_full_count(content: dict[str, Any], tmp_path_factory: Any, data: st.DataObject) -> None:
    check_records(content, tmp_path_factory.getbasetemp() / "mutated-record", data)


@pytest.mark.slow
@MANY
@given(data=st.data())
def test_folders_at_full_count(tiny_run: TrainedRun, tmp_path_factory: Any, data: st.DataObject) -> None:
    check_folders(tiny_run.folder, tmp_path_factory.getbasetemp() / "mutated-folder", data)
