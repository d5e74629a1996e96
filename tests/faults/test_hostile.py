"""No file from a stranger runs code, writes elsewhere, reads secrets, connects, or hangs."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TrainedRun
from tests.faults.hostile_cases import Case, cases, doors
from tests.faults.hostile_world import BYTES, SECONDS, SECRETS, World

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory and pipes are watched through /proc")
CASES = [(case, door) for case in cases() for door in case.doors]
LONG_WAITS = ("is on the hub", "9**(9**9)")  # names of cases that wait for a time limit or a network
PARAMS = [  # by default through one door, and without those that wait
    pytest.param(
        case,
        door,
        id=f"{case.name}-{door}".replace("/", "_")[:80],
        marks=[pytest.mark.slow] if door != case.doors[0] or any(word in case.name for word in LONG_WAITS) else [],
    )
    for case, door in CASES
]
OF_THE_TERMINAL = {"COLUMNS", "LINES", "TERM", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"}
HARMLESS_NAMES = {"GPTLAB_TRACEBACK", "LANG", "LC_ALL", *OF_THE_TERMINAL}
DATA = {"bomb.gz": "x.txt.gz", "bomb.zip": "x.zip#x.txt", "climb.zip": "x.zip#../../evil/x.txt"}


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, toy_text: Path, tiny_run: TrainedRun) -> Iterator[World]:
    found = World(tmp_path_factory.mktemp("world").resolve(), toy_text, tiny_run.folder)
    yield found
    found.end()


def request(world: World, case: Case, door: str, folder: Path) -> dict[str, Any]:
    if door in DATA:
        words = ["tokenizer=bytes", "data=text", f"data.path={folder}/{DATA[door]}", "model=tiny"]
        return {"command": "data", "words": words}
    command, words = doors(world, folder, case.base)[door]
    return {"command": command, "words": words, "stdin": "Who are you?\n"}


def harmless(world: World, case: Case, door: str) -> dict[str, Any]:
    """Return the actions of the same command on the harmless input."""
    key = f"{case.base} {door}"
    if key not in world.harmless:
        folder = world.cases / f"harmless-{len(world.harmless)}"
        shutil.copytree(world.bases[case.base], folder)
        (folder / "x.txt").write_text(world.text.read_text(encoding="utf-8"), encoding="utf-8")
        ask = request(world, case, "data" if door in DATA else door, folder)
        world.ask(ask)  # one-off imports and caches are not counted
        shutil.rmtree(folder)
        shutil.copytree(world.bases[case.base], folder)
        (folder / "x.txt").write_text(world.text.read_text(encoding="utf-8"), encoding="utf-8")
        shutil.rmtree(f"{folder}-out", ignore_errors=True)
        found = world.ask(ask)
        refused = door.endswith("itself") and "was not trained by you" in found["err"]
        world.harmless[key] = {**found, "folder": str(folder)}
        if found["status"] != 0 and not refused:
            world.harmless[key]["error"] = f"the harmless input does not work at {key}: {found['err']}"
    if "error" in world.harmless[key]:
        pytest.fail(world.harmless[key]["error"])
    return world.harmless[key]


@pytest.mark.parametrize(("case", "door"), PARAMS)
def test_a_hostile_input_is_only_data(case: Case, door: str, world: World, request_id: int) -> None:
    usual = harmless(world, case, door)
    folder = world.cases / f"case-{request_id}"
    shutil.copytree(world.bases[case.base], folder)
    case.change(world, folder)
    before = world.tree()
    found = world.ask(request(world, case, door, folder))
    assert found["status"] in (0, 1), found["err"]
    if case.works is not None:
        assert found["status"] == (0 if case.works else 1), found["err"] or found["out"]
    assert "Traceback" not in found["err"]
    if found["status"]:
        assert 0 < len(found["err"].strip().splitlines()) <= 4, found["err"]
        assert len(found["err"]) < 4000
    assert found["seconds"] < SECONDS + usual["seconds"]
    assert found["bytes"] < usual["bytes"] + BYTES
    assert world.tree() == before, "something was written elsewhere"
    assert not Path("/tmp/gptlab-evil").exists()
    output = found["out"] + found["err"] + written(folder)
    assert not any(secret in output for secret in SECRETS.values())
    assert not set(found["names"]) & SECRETS.keys() - set(usual["names"])
    assert not set(found["names"]) - set(usual["names"]) - HARMLESS_NAMES - {"GPTLAB_CACHE", "GPTLAB_KEY_FILE"}
    check_events(found["events"], usual, world, folder)


def written(folder: Path) -> str:
    """Return all texts that a command wrote beside the hostile input."""
    out = folder.with_name(f"{folder.name}-out")
    paths = [path for path in out.rglob("*") if path.is_file() and path.stat().st_size < 1 << 20]
    return "".join(path.read_bytes().decode("utf-8", "replace") for path in paths)


def check_events(events: list[str], usual: dict[str, Any], world: World, folder: Path) -> None:
    """Check that imports, code, files, processes and connections are those of the harmless input."""
    known = {event.replace(usual["folder"], str(folder)) for event in usual["events"]}
    own = (
        str(folder),
        str(world.root / "cwd" / "outputs" / "evaluations"),
        str(world.cache),
        str(world.home / ".config"),
        "/dev/null",
        "/proc/self/",
    )
    for event in set(events) - known:
        what, _, rest = event.partition(" ")
        if what == "write":
            assert rest.startswith(own), event
        elif what == "read":
            assert "secret.txt" not in rest, event
            assert "evilpkg" not in rest or rest.endswith("evilpkg"), event
        elif what == "import":
            assert rest not in ("evilpkg", "pip", "setuptools", "deepspeed", "huggingface_hub"), event
        else:
            raise AssertionError(event)


@pytest.fixture
def request_id(world: World) -> int:
    return len(list(world.cases.iterdir()))


def test_there_are_enough_hostile_cases() -> None:
    assert len(CASES) >= 120
    assert {door for _, door in CASES} >= {"generate", "chat", "classify", "evaluate", "compare", "export", "resume"}
