"""The user's own run resumes with its data and callbacks; another user's needs them named again."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from gptlab.commands import compare, evaluate, export, generate
from gptlab.commands.train import main
from gptlab.run import Run
from gptlab.storage.checkpoint import read_checkpoint
from tests.conftest import TINY

OWN = (
    "+callbacks.lr._target_=lightning.pytorch.callbacks.LearningRateMonitor",
    "+callbacks.lr.logging_interval=step",
    "+logger.lightning._target_=lightning.pytorch.loggers.CSVLogger",
    "+logger.lightning.name=theirs",
)


@pytest.fixture(scope="module")
def trained(toy_text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a run with Lightning's callbacks and with interpolated keys."""
    folder = tmp_path_factory.mktemp("outputs") / "own"
    words = [*TINY, "data=text", f"data.path={toy_text}", "trainer.max_steps=4", f"output_dir={folder}", "logger=csv"]
    refers = [
        "callbacks.last_checkpoint.every_n_train_steps=${trainer.val_check_interval}",
        "trainer.val_check_interval=2",
    ]
    main([*words, *OWN, f"+logger.lightning.save_dir={folder}", *refers, "name=${model.n_layers}-layers"])
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture
def stranger(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the run, as a user who did not train it."""
    monkeypatch.setenv("GPTLAB_KEY_FILE", str(tmp_path / "another" / "key"))
    return run


def error_of(command: object, words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        command(words)  # type: ignore[operator]
    assert end.value.code == 1
    return capsys.readouterr().err


def test_the_user_s_own_run_resumes_without_repeated_overrides(run: Path, trained: Path) -> None:
    """Callbacks, loggers, data and interpolations are kept; changing a key changes those that refer to it."""
    main([f"resume={run}", "trainer.max_steps=8", "trainer.val_check_interval=4", "trainer.log_every_n_steps=1"])
    record = read_checkpoint(run / "checkpoints" / "last.ckpt", mmap=True)["gptlab"]
    assert record["config"]["callbacks"]["last_checkpoint"]["every_n_train_steps"] == 4
    assert record["config"]["name"] == "2-layers"
    assert record["choices"]["model"] == "mini"
    assert record["references"]["name"] == "${model.n_layers}-layers"
    logged = max(trained.glob("theirs/version_*/metrics.csv"), key=lambda path: path.stat().st_mtime_ns)
    assert "lr-Muon" in logged.read_text(encoding="utf-8").splitlines()[0]
    assert json.loads((run / "summary.json").read_text(encoding="utf-8"))["steps"] == 8


def test_another_user_s_run_needs_its_data_and_callbacks_named_again(
    stranger: Path, toy_text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted(stranger.rglob("*"))
    message = error_of(main, [f"resume={stranger}", "trainer.max_steps=6"], capsys)
    assert len(message.strip().splitlines()) == 1
    for entry in ("data.path", "callbacks.lr", "logger.lightning"):
        assert f"{entry} (it was '" in message
    assert "callbacks.samples" not in message
    assert sorted(stranger.rglob("*")) == files
    words = [f"resume={stranger}", "trainer.max_steps=6", f"data.path={toy_text}", "~callbacks.lr"]
    message = error_of(main, words, capsys)
    assert "logger.lightning (it was" in message
    assert "data.path" not in message
    main([*words, *(word for word in OWN if "logger" in word), f"+logger.lightning.save_dir={stranger}"])
    record = read_checkpoint(stranger / "checkpoints" / "last.ckpt", mmap=True)["gptlab"]
    assert "lr" not in record["config"]["callbacks"]
    assert json.loads((stranger / "summary.json").read_text(encoding="utf-8"))["steps"] == 6
    main([f"resume={stranger}", "trainer.max_steps=7"])  # from here on it is the user's own run


def test_a_stranger_s_run_resumes_bit_for_bit(
    run: Path, toy_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    main([f"resume={run}", "trainer.max_steps=7"])
    monkeypatch.setenv("GPTLAB_KEY_FILE", str(tmp_path / "another" / "key"))
    main([f"resume={copy}", "trainer.max_steps=7", f"data.path={toy_text}", "~callbacks.lr", "~logger.lightning"])
    ours, theirs = (read_checkpoint(path / "checkpoints" / "last.ckpt", mmap=True) for path in (run, copy))
    assert all(torch.equal(theirs["state_dict"][name], tensor) for name, tensor in ours["state_dict"].items())


def test_another_user_s_run_generates_and_exports_but_reads_no_data(
    stranger: Path, toy_text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generate.main([f"run={stranger}", "prompt=And", "sampling.max_new_tokens=4"])
    export.main([f"run={stranger}", f"to={tmp_path / 'exported'}"])
    capsys.readouterr()
    message = error_of(evaluate.main, [f"run={stranger}", "n_questions=0"], capsys)
    assert re.search(
        r"was not trained by you, so its data, '.*toy\.txt', are not read unless you name them: give data=text", message
    )
    assert error_of(compare.main, [f"run=[{stranger},{stranger}]"], capsys) == message
    evaluate.main([f"run={stranger}", "data=text", f"data.path={toy_text}", "n_questions=0"])


def test_every_command_verifies_the_checkpoint(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    best = run / "checkpoints" / "best.ckpt"
    content = bytearray(best.read_bytes())
    content[len(content) // 2] ^= 1
    best.write_bytes(content)
    for command, words in (
        (generate.main, [f"run={run}", "prompt=And"]),
        (evaluate.main, [f"run={run}"]),
        (export.main, [f"run={run}", f"to={run / 'x'}"]),
        (main, ["weights=run", f"weights.run={run}", "model=pretrained", "tokenizer=pretrained", "debug=smoke"]),
    ):
        assert "best.ckpt is damaged: its sha256 is not the one in best.ckpt.sha256" in error_of(command, words, capsys)


def test_an_unchanged_verified_file_is_not_hashed_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Run.open(run)  # a copy that has not been verified yet

    def hash_nothing(*_: object) -> None:
        raise AssertionError("the file was read again")

    monkeypatch.setattr("gptlab.storage.checksum.hashlib.file_digest", hash_nothing)
    Run.open(run)
    (run / "checkpoints" / "best.ckpt").touch()
    with pytest.raises(AssertionError, match="read again"):
        Run.open(run)
