"""Weights & Biases and MLflow get what TensorBoard gets, and a resumed run continues its remote run."""

import json
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gptlab.commands.train import main
from gptlab.errors import UserError
from gptlab.training.remote_loggers import REMOTE_RUNS, _check_installed
from tests.conf.test_conf import write_labelled
from tests.conftest import TINY


def test_a_missing_package_is_a_sentence() -> None:
    with pytest.raises(UserError, match=r'logger=nowhere needs the package nowhere: pip install "gptlab\[nowhere\]"'):
        _check_installed("nowhere")


def train(folder: Path, *words: str) -> dict[str, str]:
    """Train a small classifier with every logger; return the ids of its remote runs."""
    database = f"sqlite:///{folder.parent / 'mlflow.db'}"
    main([*words, "logger.wandb.mode=offline", f"logger.mlflow.tracking_uri={database}"])
    ids: dict[str, str] = json.loads((folder / REMOTE_RUNS).read_text(encoding="utf-8"))
    return ids


def tags(folder: Path) -> set[str]:
    """Return the names of TensorBoard's curves."""
    events = next(folder.rglob("events.out.tfevents.*")).parent
    return set(EventAccumulator(str(events)).Reload().Tags()["scalars"])


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_both_hold_the_curves_texts_and_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb, mlflow = pytest.importorskip("wandb"), pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    folder, rows = tmp_path / "outputs" / "talk" / "one", write_labelled(tmp_path / "rows.tsv")
    data = ["data=csv", f"data.path={rows}", "data.reader.columns=[label,text]", "data.batch_size=8"]
    loggers = [
        "logger=[tensorboard,wandb,mlflow]",
        "head=classifier",
        "callbacks=default",
        "trainer.val_check_interval=2",
    ]
    first = train(folder, *TINY, *data, *loggers, f"output_dir={folder}", "trainer.max_steps=4")
    assert set(first) == {"wandb", "mlflow"}
    again = train(folder, f"resume={folder}", "trainer.max_steps=6")
    assert again == first, "a resumed run continues its remote runs"

    client = mlflow.tracking.MlflowClient(f"sqlite:///{tmp_path / 'outputs' / 'talk' / 'mlflow.db'}")
    run = client.get_run(first["mlflow"])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "talk/one"
    assert set(run.data.metrics) >= tags(folder) - {"epoch"}
    assert {point.step for point in client.get_metric_history(first["mlflow"], "val/loss")} >= {2, 4, 6}
    assert float(run.data.params["optim.lr"]) > 0
    artifacts = [file.path for file in _artifacts(client, first["mlflow"])]
    assert any(path.startswith("run/info/") for path in artifacts)
    assert any("confusion_matrix" in path and path.endswith(".png") for path in artifacts)

    offline = sorted((folder / "wandb").glob(f"offline-run-*-{first['wandb']}"))
    assert len(offline) == 2, "both halves have one id, by which `wandb sync` joins them"
    assert wandb.run is None, "the next run of this process begins its own"
    media = [path.name for half in offline for path in half.rglob("*.*")]
    assert any(name.startswith("confusion_matrix") for name in media)
    assert any(name.startswith("info") and name.endswith(".html") for name in media)


def _artifacts(client: Any, run: str, path: str | None = None) -> list[Any]:
    entries = client.list_artifacts(run, path)
    return [
        file for entry in entries for file in ([entry] if not entry.is_dir else _artifacts(client, run, entry.path))
    ]


@pytest.mark.slow
def test_an_account_without_a_key_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], toy_text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with pytest.raises(SystemExit):
        main([*TINY, "data=text", f"data.path={toy_text}", "logger=wandb", f"output_dir={tmp_path / 'run'}"])
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "logger.wandb.mode=offline" in error
