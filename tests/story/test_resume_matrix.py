"""Which run `resume=` resumes, what may change, and the errors."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from gptlab.commands.train import main
from gptlab.config.resume import resolve_resume
from tests.conftest import ROOT, TINY

CONSTANT = ("schedule=constant", "trainer.val_check_interval=5", "model.drop_rate=0.1", "callbacks.samples.prompt=And")
CONSTANT += ("callbacks.ema.decay=0.9",)


@pytest.fixture(scope="module")
def words(toy_text: Path) -> list[str]:
    return [*TINY, *CONSTANT, "data=text", f"data.path={toy_text}"]


@pytest.fixture(scope="module")
def ten_steps(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outputs") / "ten"
    main([*words, "trainer.max_steps=10", f"output_dir={folder}"])
    return folder


@pytest.fixture
def run(ten_steps: Path, tmp_path: Path) -> Path:
    """Return a copy of a finished run, to be changed."""
    return Path(shutil.copytree(ten_steps, tmp_path / "run"))


def weights(folder: Path, name: str = "last") -> dict[str, Any]:
    """Return the weights of a checkpoint, and the average of them that it holds."""
    content = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
    averages = content.get("callbacks", {}).get("AverageWeights", {}).get("averages", {})
    return content["state_dict"] | {f"average of {key}": value for key, value in averages.items()}


def interrupt(folder: Path) -> None:
    """Make a finished run look as if it had been killed."""
    (folder / "summary.json").unlink()


def error_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 1
    return capsys.readouterr().err


def test_a_finished_run_is_extended(run: Path, words: list[str], tmp_path: Path) -> None:
    """Extended twice at a constant rate, it equals the longer run bit for bit and keeps its configuration."""
    before = (run / ".hydra" / "config.yaml").read_bytes()
    main([f"resume={run}", "trainer.max_steps=13"])
    main([f"resume={run}", "trainer.max_steps=15", *words])  # repeated overrides change nothing
    assert (run / ".hydra" / "config.yaml").read_bytes() == before
    main([*words, "trainer.max_steps=15", f"output_dir={tmp_path / 'straight'}"])
    ours, theirs = weights(run), weights(tmp_path / "straight")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    averaged = [name for name in theirs if name.startswith("average of ")]
    assert averaged
    best = weights(run, "best")  # of the last step: 15 steps are too few to get worse
    assert all(torch.equal(best[name.removeprefix("average of ")], theirs[name]) for name in averaged)
    assert not any(torch.equal(theirs[name], theirs[name.removeprefix("average of ")]) for name in averaged)
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert (summary["status"], summary["steps"], summary["tokens"]) == ("finished", 15, 15 * 4 * 32)
    assert (run / ".hydra" / "resume_2" / "config.yaml").is_file()


@pytest.mark.slow
def test_torchs_optimizer_and_schedule_resume_to_the_bit(words: list[str], tmp_path: Path) -> None:
    torchs = ["optim=torch", "optim.name=NAdam", "optim.lr=0.01", "optim.weight_decay=0.1", "optim.betas=[0.9,0.95]"]
    torchs += ["schedule=torch", "schedule.name=CosineAnnealingWarmRestarts", "schedule.T_0=4", "tuning=full"]
    words = [*(word for word in words if word != "schedule=constant"), *torchs]
    main([*words, "trainer.max_steps=7", f"output_dir={tmp_path / 'resumed'}"])
    main([f"resume={tmp_path / 'resumed'}", "trainer.max_steps=15"])
    main([*words, "trainer.max_steps=15", f"output_dir={tmp_path / 'straight'}"])
    ours, theirs = weights(tmp_path / "resumed"), weights(tmp_path / "straight")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_allowed_changes_apply_and_persist(run: Path) -> None:
    interrupt(run)
    words = resolve_resume([f"resume={run}", "trainer.max_steps=12", "~callbacks.early_stopping"])
    assert {"trainer.max_steps=12", "~callbacks.early_stopping"} <= set(words.overrides)
    main([f"resume={run}", "trainer.max_steps=12", "~callbacks.early_stopping"])
    later = resolve_resume([f"resume={run}", "trainer.max_steps=13", "~callbacks.early_stopping"])
    assert "~callbacks.early_stopping" not in later.overrides  # it was already removed
    assert any("resume_2" in word for word in later.overrides)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["optim.lr=1"], r"optim\.lr is 0\.02 in .*run and cannot become 1 when it is resumed: leave it out"),
        (["+callbacks.ema.decay=0.5"], r"callbacks\.ema\.decay .*cannot become 0\.5"),
        (["seed=5", "data.batch_size=2"], r"seed is 123 .*\ndata\.batch_size is 4 in .*cannot become 2"),
        (["model=modern"], "model=modern cannot be chosen for a resumed run: it has mini"),
        (["model.n_layer=3"], r"model\.n_layer is not a key \(did you mean model\.n_layers\?\)"),
        (["trainer.max_steps=0"], r"trainer\.max_steps is 0: it must be at least 1"),
        ([], "the run has finished its 10 steps; to train it further, give resume=.*run trainer.max_steps=20"),
        (["trainer.max_steps=8"], "the run has trained 10 steps, trainer.max_steps is 8: give more"),
        (["data.val_fraction=0.2", "trainer.max_steps=20"], r"data\.val_fraction is 0\.1 .*cannot become 0\.2"),
    ],
)
def test_an_impossible_resume_is_reported(
    more: list[str], sentence: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted(run.rglob("*"))
    assert re.search(sentence, error_of([f"resume={run}", *more], capsys))
    assert sorted(run.rglob("*")) == files


def test_a_changed_text_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.txt"
    other.write_text("A quite different text, of other words altogether.\n" * 500)
    message = error_of([f"resume={run}", "trainer.max_steps=20", f"data.path={other}"], capsys)
    assert "the data, its tokens or its rows (data, tokenizer, prompt, model.context_length) has changed" in message
    assert not list(run.glob(".hydra/resume_*"))  # the failed attempt left none
    main([f"resume={run}", "trainer.max_steps=11"])


def test_paths_that_are_not_runs_are_reported(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no such folder or file" in error_of(["resume=nowhere"], capsys)
    assert "it holds only weights: give last.ckpt" in error_of([f"resume={run}/checkpoints/best.ckpt"], capsys)
    (empty := tmp_path / "empty").mkdir()
    assert "no checkpoints/last.ckpt to resume from" in error_of([f"resume={empty}"], capsys)
    assert f"resume={run}: the run has finished" in error_of([f"resume={tmp_path}"], capsys)  # the newest run below it
    alone = shutil.copy(run / "checkpoints" / "last.ckpt", tmp_path)
    assert "it is not in a run's checkpoints folder" in error_of([f"resume={alone}"], capsys)


def test_a_damaged_checkpoint_is_reported(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage(run)
    assert "last.ckpt is damaged: its sha256 is not the one in last.ckpt.sha256" in error_of([f"resume={run}"], capsys)


def damage(run: Path) -> None:
    """Flip one bit among the tensors, which torch.load does not notice."""
    path = run / "checkpoints" / "last.ckpt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    torch.load(path, weights_only=True)


def test_a_run_in_training_is_not_resumed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = f"""
import sys
from pathlib import Path
from gptlab.storage.run_folder import lock_run
with lock_run(Path({str(run)!r})):
    print("in", flush=True)
    sys.stdin.read()
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        assert "is being trained by another process" in error_of([f"resume={run}", "trainer.max_steps=20"], capsys)
    main([f"resume={run}", "trainer.max_steps=11"])  # the lock ended with its process


def test_a_folder_with_a_run_is_not_overwritten(
    run: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    message = error_of([*words, f"output_dir={run}"], capsys)
    assert f"{run} holds a run already: resume it with resume={run}" in message


def test_auto_takes_the_newest_unfinished_whole_run(
    ten_steps: Path, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    older, whole, broken, bare, finished = (tmp_path / "outputs" / "gpt" / name for name in ("e", "d", "c", "b", "a"))
    auto = [*words, "trainer.max_steps=10", "resume=auto"]
    found = resolve_resume(auto)
    assert found.notes == ["resume=auto: no unfinished run, starting a new one"]
    assert not any(word.startswith("resume=") for word in found.overrides)
    for age, folder in enumerate([finished, bare, broken, whole, older]):
        shutil.copytree(ten_steps, folder)
        os.utime(folder / ".hydra" / "config.yaml", (1e9 - age, 1e9 - age))
        if folder != finished:
            interrupt(folder)
    damage(broken)
    shutil.rmtree(bare / "checkpoints")
    found = resolve_resume(auto)
    assert any("resume='outputs/gpt/d/checkpoints/last.ckpt'" in word for word in found.overrides)
    assert len(found.notes) == 3
    assert "outputs/gpt/b is a run that has saved no checkpoint" in found.notes[0]
    assert "last.ckpt is damaged" in found.notes[1]
    assert found.notes[2] == "resume=auto: resuming outputs/gpt/d"
    chosen = resolve_resume([*auto, f"output_dir={older}"])
    assert any(f"{older}/checkpoints/last.ckpt" in word for word in chosen.overrides)


def test_a_run_killed_between_its_last_step_and_its_summary_gets_one(run: Path) -> None:
    wanted = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    interrupt(run)
    main([f"resume={run}"])
    found = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    for key in ("status", "steps", "tokens", "train", "best", "best_step"):
        assert found[key] == wanted[key]
    assert set(wanted["train"]) == {name.replace("val", "train") for name in found["val"]}  # all metrics of the head
    assert found["val"] == pytest.approx({name: wanted["val"][name] for name in found["val"]}, rel=1e-6)


def test_a_killed_process_resumes_bit_for_bit(words: list[str], tmp_path: Path) -> None:
    """A process is killed within a step, without a chance to save, and then resumed."""
    killed, straight = tmp_path / "killed", tmp_path / "straight"
    more = ["trainer.max_steps=12", "callbacks.last_checkpoint.every_n_train_steps=4"]
    watch = ["+callbacks.watch._target_=tests.support.watch.Watch", "+callbacks.watch._partial_=true"]
    stop = ["+callbacks.watch.stop_at=9", "+callbacks.watch.how=SIGKILL"]
    command = [sys.executable, "train.py", *words, *more, f"output_dir={killed}"]
    environment = {**os.environ, "GPTLAB_TRUST": "tests", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, *watch, *stop], cwd=ROOT, env=environment, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (killed / "summary.json").exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPTLAB_TRUST", "tests")
        main([f"resume={killed}", "callbacks.watch.stop_at=null"])
    main([*words, *more, f"output_dir={straight}"])
    ours, theirs = weights(killed), weights(straight)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_two_processes_equal_one(words: list[str], tmp_path: Path) -> None:
    """Two processes that share each batch equal one that has all of it."""
    more = ["trainer.max_steps=6", "model.drop_rate=0", "trainer.accelerator=cpu", "trainer.precision=64-true"]
    two = [*words, *more, f"output_dir={tmp_path / 'two'}", "trainer.devices=2", "data.batch_size=2"]
    done = subprocess.run(
        [sys.executable, "train.py", *two], cwd=ROOT, env={**os.environ}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("finished after 6 steps") == 1  # only one of them prints
    main([*words, *more, f"output_dir={tmp_path / 'one'}"])
    ours, theirs = weights(tmp_path / "two"), weights(tmp_path / "one")
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-9, atol=1e-9)
    found, wanted = (json.loads((tmp_path / n / "summary.json").read_text(encoding="utf-8")) for n in ("two", "one"))
    assert found["val"] == pytest.approx(wanted["val"], rel=1e-9)
    assert found["tokens"] == wanted["tokens"]
