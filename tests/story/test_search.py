"""The story of a search: a hopeless trial is pruned, and the same command goes on."""

import csv
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from gptlab.commands.train import main
from gptlab.sweeps.search.journal import STUDY, open_journal
from tests.conftest import ROOT, TINY

SHORT = ("trainer.max_steps=6", "trainer.val_check_interval=2", "schedule.warmup_steps=0", "~callbacks.samples")
SETTINGS = ("pruner_startup_trials=1", "pruner_warmup_steps=3", "startup_trials=1", "seed=2")


def records(sweep: Path) -> dict[int, dict[str, Any]]:
    """Return the records of a sweep's jobs, by number."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sweep.glob("*/status.json")]
    return {record["job"]: record for record in found}


def trials(sweep: Path) -> list[Any]:
    """Return the trials in a sweep's journal."""
    storage = open_journal(sweep)
    return storage.get_all_trials(storage.get_study_id_from_name(STUDY))


def test_a_hopeless_trial_is_pruned(toy_text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second learning rate hardly moves the weights: at the second validation, the first after 3 steps, it ends."""
    sweep = tmp_path / "sweep"
    settings = [f"hydra.sweeper.{setting}" for setting in SETTINGS]
    words = [*TINY, *SHORT, "data=text", f"data.path={toy_text}", "sweep=search", f"hydra.sweep.dir={sweep}"]
    main([*words, "optim.lr=1e-2,1e-9", "~callbacks.probes", *settings])
    found = records(sweep)
    assert [(float(found[n]["varies"]["optim.lr"]), found[n]["status"]) for n in (0, 1)] == [
        (0.01, "finished"),
        (1e-9, "pruned"),
    ]
    (pruned,) = [path.parent for path in sweep.glob("*/status.json") if '"pruned"' in path.read_text(encoding="utf-8")]
    summary = json.loads((pruned / "summary.json").read_text(encoding="utf-8"))
    assert (summary["status"], summary["steps"], summary["train"]) == ("pruned", 4, {})
    assert sorted(path.name for path in (pruned / "checkpoints").glob("*.ckpt")) == ["best.ckpt", "last.ckpt"]
    assert "pruned at step 4: no better than the median" in (pruned / "train.log").read_text(encoding="utf-8")
    assert [trial.state for trial in trials(sweep)] == [TrialState.COMPLETE, TrialState.PRUNED]
    assert list(trials(sweep)[1].intermediate_values) == [2, 4]
    with (sweep / "leaderboard.csv").open(encoding="utf-8", newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["finished", "pruned"]
    shown = capsys.readouterr().out
    assert "a search for the lowest val/loss in 20 trials" in shown
    assert "every combination of the values has been tried, in 2 trials" in shown


@pytest.mark.long
def test_a_search_killed_twice_has_each_trial_once(toy_text: Path, tmp_path: Path) -> None:
    """12 trials: SIGKILL hits the command at its third validation, and after the next two trials."""
    overrides = [*TINY, "trainer.max_steps=40", "trainer.val_check_interval=5", "~callbacks.samples", "data=text"]
    overrides += [f"data.path={toy_text}", "callbacks.last_checkpoint.every_n_train_steps=5", "sweep=search"]
    overrides += [
        "optim.lr=interval(1e-4,1)",
        "model.n_layers=1,2",
        "hydra.sweeper.n_trials=12",
        "hydra.sweeper.pruner_warmup_steps=0.25",
    ]

    def command(sweep: str) -> list[str]:
        return [sys.executable, str(ROOT / "train.py"), *overrides, f"hydra.sweep.dir={sweep}"]

    def n_lines() -> int:
        path = tmp_path / "killed" / "study.journal"
        return len(path.read_bytes().splitlines()) if path.exists() else 0

    subprocess.run(command("whole"), cwd=tmp_path, check=True, capture_output=True)
    for n_more in (5, 23):  # lines of the journal
        process = subprocess.Popen(
            command("killed"), cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wanted = n_lines() + n_more
        while n_lines() < wanted and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    subprocess.run(command("killed"), cwd=tmp_path, check=True, capture_output=True)
    whole, killed = (
        [(t.number, t.state, t.params, t.value, t.intermediate_values) for t in trials(tmp_path / name)]
        for name in ("whole", "killed")
    )
    assert len(whole) == 12
    assert TrialState.PRUNED in [state for _, state, *_ in whole]
    assert killed == whole
    assert len(list((tmp_path / "killed").glob("*/status.json"))) == 12
    logs = [path.read_text(encoding="utf-8") for path in (tmp_path / "killed").glob("*/train.log")]
    assert sum(bool(re.search(r"resuming after step", log)) for log in logs) >= 1
