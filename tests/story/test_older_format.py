"""A run of an older gptlab is refused in one sentence, by every command that opens one."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gptlab.commands import chat, classify, compare, evaluate, export, generate, train
from gptlab.storage.checkpoint import FORMAT, read_checkpoint, write_checkpoint
from tests.conftest import TrainedRun

OPENING: dict[str, tuple[Callable[[list[str]], Any], list[str], str]] = {  # command, arguments, the checkpoint it opens
    "generate": (generate.main, ["run={run}", "prompt=And"], "best"),
    "chat": (chat.main, ["run={run}"], "best"),
    "evaluate": (evaluate.main, ["run={run}"], "best"),
    "classify": (classify.main, ["run={run}", "text=And"], "best"),
    "compare": (compare.main, ["run=[{run},{run}]"], "best"),
    "export": (export.main, ["run={run}", "to={run}/exported"], "best"),
    "resume": (train.main, ["resume={run}", "trainer.max_steps=40"], "last"),
    "resume=auto": (train.main, ["resume=auto", "output_dir={run}", "data=text", "data.path={run}/train.log"], "last"),
    "weights=run": (
        train.main,
        ["weights=run", "weights.run={run}", "model=pretrained", "tokenizer=pretrained", "debug=smoke"],
        "best",
    ),
}


def of_format(number: Any, run: TrainedRun, folder: Path) -> Path:
    """Return a copy of a run, unfinished, with checkpoints of another format."""
    copy = Path(shutil.copytree(run.folder, folder / "run"))
    (copy / "summary.json").unlink()
    for path in (copy / "checkpoints").glob("*.ckpt"):
        content = read_checkpoint(path, mmap=False)
        content["gptlab"]["format"] = number
        write_checkpoint(content, path)
    return copy


def refusal(command: Callable[[list[str]], Any], words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        command(words)
    assert end.value.code == 1
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def old_run(tiny_run: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return of_format(FORMAT - 1, tiny_run, tmp_path_factory.mktemp("old"))


@pytest.mark.parametrize("name", OPENING)
def test_every_command_refuses_an_older_run(name: str, old_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command, words, checkpoint = OPENING[name]
    files = sorted(old_run.rglob("*"))
    assert refusal(command, [word.format(run=old_run) for word in words], capsys) == (
        f"{old_run}/checkpoints/{checkpoint}.ckpt was written by an older gptlab (checkpoint format {FORMAT - 1}; "
        f"this one reads {FORMAT}): train the run again, or open it with that version\n"
    )
    assert sorted(old_run.rglob("*")) == files


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (1, f"was written by an older gptlab (checkpoint format 1; this one reads {FORMAT}): train the run again"),
        (
            FORMAT + 1,
            f"was written by a newer gptlab (checkpoint format {FORMAT + 1}; this one reads {FORMAT}): update gptlab",
        ),
        (10**500, f"this one reads {FORMAT}): update gptlab"),
        (None, f"its format is None, wanted {FORMAT}: take another checkpoint"),
        ("4", f"its format is '4', wanted {FORMAT}: take another checkpoint"),
    ],
    ids=["first", "newer", "huge", "none", "text"],
)
def test_any_other_format_number_is_refused(
    number: Any, sentence: str, tiny_run: TrainedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = of_format(number, tiny_run, tmp_path)
    assert sentence in refusal(generate.main, [f"run={run}", "prompt=And"], capsys)
