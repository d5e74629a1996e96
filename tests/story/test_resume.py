"""An interrupted and resumed run equals an uninterrupted one, bit for bit."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from gptlab.commands.train import main
from tests.conftest import TINY, write_text

# 13 batches an epoch of 3 windows, 2 batches a step: steps lie across the ends of epochs
RUN = (
    *TINY,
    "data=text",
    "name=resumed",
    "data.batch_size=3",
    "model.drop_rate=0.2",
    "schedule.warmup_steps=2",
    "trainer.max_steps=16",
    "trainer.val_check_interval=4",
    "trainer.accumulate_grad_batches=2",
    "trainer.log_every_n_steps=1",
    "callbacks.last_checkpoint.every_n_train_steps=3",
    "+callbacks.watch._target_=tests.support.watch.Watch",
    "+callbacks.watch._partial_=true",
)


def stopping(stop_at: int | None, how: str) -> list[str]:
    return [f"+callbacks.watch.stop_at={'null' if stop_at is None else stop_at}", f"+callbacks.watch.how={how}"]


@pytest.fixture(scope="module", autouse=True)
def _trusted() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPTLAB_TRUST", "tests")
        yield


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"data.path={write_text(tmp_path_factory.mktemp('text') / 'toy.txt', 870)}"


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, text: str) -> Path:
    """Train the uninterrupted run."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    main([*RUN, text, f"output_dir={folder}", *stopping(None, "error")])
    return folder


def state(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def lines(folder: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """Return the record of each batch and validation; the later one of those repeated."""
    written = [json.loads(line) for line in (folder / "watch.jsonl").read_text(encoding="utf-8").splitlines()]
    return {("batch", line["batch"]) if "batch" in line else ("val", line["step"]): line for line in written}


def summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def samples(folder: Path) -> list[str]:
    """Return the sample texts of the log, by step."""
    log = (folder / "train.log").read_text(encoding="utf-8")
    found = re.findall(r"step (\d+)/\d+ · [^\n]*val/loss[^\n]*\n[\d:, -]+ INFO ( {4}.*?)\n\n", log, flags=re.DOTALL)
    return [text for _, text in sorted(dict(found).items(), key=lambda item: int(item[0]))]


def assert_same(value: Any, other: Any) -> None:
    """Compare tensors bit for bit, and containers item by item."""
    if isinstance(value, torch.Tensor):
        assert torch.equal(value, other)
    elif isinstance(value, dict):
        assert value.keys() == other.keys()
        for key in value:
            assert_same(value[key], other[key])
    elif isinstance(value, list | tuple):
        assert len(value) == len(other)
        for one, two in zip(value, other, strict=True):
            assert_same(one, two)
    else:
        assert value == other


def assert_same_run(folder: Path, straight: Path, *, n_samples: int = 4) -> None:
    ours, theirs = state(folder), state(straight)
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step"):
        assert_same(ours[key], theirs[key])
    assert lines(folder) == lines(straight)
    assert samples(folder) == samples(straight)
    assert len(samples(folder)) == n_samples
    mine, its = summary(folder), summary(straight)
    for key in ("status", "steps", "tokens", "train", "val", "best", "best_step"):
        assert mine[key] == its[key]


def test_the_straight_run_sees_each_window_once_an_epoch(straight: Path) -> None:
    batches = [line for key, line in sorted(lines(straight).items()) if key[0] == "batch"]
    rows = [tuple(row) for line in batches for row in line["ids"]]
    assert len(rows) == 32 * 3
    for first in (0, 39):
        assert len(set(rows[first : first + 39])) == 39
    assert set(rows[:39]) == set(rows[39:78])


@pytest.mark.parametrize(
    ("stop_at", "how", "n_workers", "saved"),
    [
        pytest.param(9, "SIGTERM", 0, 5, id="amid an epoch, by SIGTERM"),
        pytest.param(9, "SIGTERM", 2, 5, id="amid an epoch, with workers"),
        pytest.param(8, "SIGINT", 0, 5, id="amid a step's batches, by Ctrl-C"),
        pytest.param(13, "SIGTERM", 0, 7, id="at an epoch's end"),
        pytest.param(25, "SIGTERM", 2, 13, id="at the second epoch's end, with workers", marks=pytest.mark.slow),
        pytest.param(15, "validation", 0, 8, id="amid a validation"),
        pytest.param(15, "SIGTERM", 0, 8, id="before a validation"),
        pytest.param(17, "error", 0, 6, id="by an error, three batches after the last checkpoint"),
        pytest.param(18, "error", 0, 9, id="by an error between checkpoint and next step"),
        pytest.param(31, "SIGTERM", 0, 16, id="in the last step, which ends the run"),
    ],
)
def test_an_interrupted_run_resumes_bit_for_bit(
    stop_at: int, how: str, n_workers: int, saved: int, straight: Path, text: str, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    words = [*RUN, text, f"output_dir={folder}", f"data.n_workers={n_workers}", *stopping(stop_at, how)]
    if saved == 16:
        main(words)
    else:
        with pytest.raises((SystemExit, RuntimeError)) as stopped:
            main(words)
        wanted = {"error": "the power failed", "SIGINT": "130"}.get(how, "143")
        assert str(stopped.value) == wanted
        assert summary(folder)["status"] == ("failed" if how == "error" else "interrupted")
    assert state(folder)["global_step"] == saved
    if saved < 16:
        main([f"resume={folder}", "callbacks.watch.stop_at=null"])
    assert_same_run(folder, straight)
