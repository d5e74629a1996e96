"""A user's mistake gets one sentence and leaves nothing behind.

The exit status is 1, and there is no traceback.
"""

import os
import socket
from pathlib import Path

import pytest
import torch

from gptlab.commands.cli import main as gptlab
from gptlab.commands.train import main
from tests.conftest import TINY, TrainedRun, write_text


def error_of(capsys: pytest.CaptureFixture[str], folder: Path, *overrides: str) -> str:
    """Return the sentence that `train` ends with."""
    with pytest.raises(SystemExit) as end:
        main([*TINY, f"output_dir={folder}", *overrides])
    assert end.value.code == 1
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error.strip().splitlines()[-1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


def test_a_mistaken_key_leaves_no_folder(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert error_of(capsys, folder, "model.n_layer=3") == "model.n_layer is not a key (did you mean model.n_layers?)"
    assert not folder.exists()


def test_a_folder_that_cannot_be_made(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    sentence = error_of(capsys, tmp_path / "file" / "run", "data=text", f"data.path={tmp_path / 'file'}")
    assert sentence.startswith(f"{tmp_path / 'file' / 'run'} cannot be made (")
    assert "choose another folder, with output_dir= for a run" in sentence


def test_a_missing_file(capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("a")
    sentence = error_of(capsys, folder, "data=text", f"data.path={tmp_path / 'text.txt'}")
    assert str(tmp_path / "text.txt") in sentence


def test_an_empty_file(capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    sentence = error_of(capsys, folder, "data=text", f"data.path={tmp_path / 'empty.txt'}")
    assert "empty" in sentence


def test_a_file_that_is_not_utf8_names_the_byte(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "latin.txt").write_bytes(b"good\nlines\n" + "caf\u00e9 ".encode("latin-1") * 3)
    sentence = error_of(capsys, folder, "data=text", f"data.path={tmp_path / 'latin.txt'}")
    assert "latin.txt" in sentence
    assert "byte 14" in sentence
    assert "line 3" in sentence


def test_a_text_shorter_than_a_window(capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("a few words only")
    sentence = error_of(capsys, folder, "data=text", f"data.path={tmp_path / 'short.txt'}")
    assert "context_length=32" in sentence
    assert "tokens" in sentence


def test_a_corpus_that_changed_since_it_was_cached_is_prepared_again(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_text(tmp_path / "toy.txt", 3000)
    words = ["data", *TINY, "data=text", f"data.path={path}", "output=json"]
    assert gptlab(words) == 0
    before = capsys.readouterr().out
    path.write_text(path.read_text().replace("king", "shepherd"))
    with caplog.at_level("INFO"):
        assert gptlab(words) == 0
    assert "toy.txt" in caplog.text
    assert "changed" in caplog.text
    after = capsys.readouterr().out
    assert "shepherd" in after
    assert "shepherd" not in before


def test_no_network_for_a_download(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    sentence = error_of(capsys, folder, "data=text", f"data.path='http://127.0.0.1:{port}/text.txt'")
    assert f"127.0.0.1:{port}" in sentence
    assert "data.path=" in sentence


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_for_the_corpus(capsys: pytest.CaptureFixture[str], folder: Path, toy_text: Path) -> None:
    """The cache is on a device without space."""
    sentence = error_of(capsys, folder, "data=text", f"data.path={toy_text}", "data.cache_dir=/dev/full")
    assert "/dev/full" in sentence


def test_a_folder_that_holds_a_run_is_not_overwritten(capsys: pytest.CaptureFixture[str], tiny_run: TrainedRun) -> None:
    before = {path: path.stat().st_mtime_ns for path in (tiny_run.folder / "checkpoints").iterdir()}
    sentence = error_of(capsys, tiny_run.folder, "data=text", f"data.path={tiny_run.text}", "trainer.max_steps=5")
    assert "holds a run already" in sentence
    assert before == {path: path.stat().st_mtime_ns for path in (tiny_run.folder / "checkpoints").iterdir()}


def test_a_non_finite_loss_stops_the_run(capsys: pytest.CaptureFixture[str], folder: Path, toy_text: Path) -> None:
    """It stops at the third step, and earlier checkpoints are intact."""
    wild = ["optim=adamw", "optim.lr=1e20", "trainer.gradient_clip_val=null", "schedule.warmup_steps=2"]
    more = ["schedule.start_factor=1e-23", "trainer.max_steps=30", "callbacks.last_checkpoint.every_n_train_steps=1"]
    sentence = error_of(capsys, folder, "data=text", f"data.path={toy_text}", *wild, *more)
    assert "lower optim.lr" in sentence
    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    log = (folder / "train.log").read_text(encoding="utf-8")
    assert (
        f"; last.ckpt holds step {saved['global_step']}; start from these weights with weights=run weights.run=" in log
    )
    assert "resume with" not in log
    assert 1 <= saved["global_step"] < 10
    assert all(weight.isfinite().all() for weight in saved["state_dict"].values())


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="there is a GPU here")
def test_a_missing_gpu(capsys: pytest.CaptureFixture[str], folder: Path, toy_text: Path) -> None:
    sentence = error_of(capsys, folder, "data=text", f"data.path={toy_text}", "trainer.accelerator=gpu")
    assert sentence.startswith("trainer.accelerator is gpu, but torch")


def test_a_missing_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for path, wanted in ((tmp_path / "none", "no such folder"), (tmp_path, "neither checkpoints/best.ckpt")):
        with pytest.raises(SystemExit):
            gptlab(["generate", f"run={path}", "prompt=a"])
        assert wanted in capsys.readouterr().err


def test_an_invalid_sampling_value(capsys: pytest.CaptureFixture[str], tiny_run: TrainedRun) -> None:
    with pytest.raises(SystemExit):
        gptlab(["generate", f"run={tiny_run.folder}", "prompt=a", "sampling.temperature=-1"])
    assert "sampling.temperature is -1" in capsys.readouterr().err


def test_an_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert gptlab(["trian"]) == 2
    assert "train" in capsys.readouterr().err
    assert gptlab([]) == 0


def test_an_internal_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, toy_text: Path) -> None:
    """A library's ValueError is a bug to report."""
    monkeypatch.setattr("gptlab.run.Run.compose", lambda _: int("no number"))
    with pytest.raises(ValueError, match="invalid literal"):
        gptlab(["data", *TINY, "data=text", f"data.path={toy_text}"])
    assert os.environ.get("GPTLAB_TRACEBACK") is None
