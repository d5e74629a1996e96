"""The test of the design: a fifth kind of data is one folder, one yaml and one test."""

import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gptlab.commands import data, evaluate
from gptlab.commands.train import main
from gptlab.config.compose import ConfigError, compose_config
from tests.conftest import TINY
from tests.support import translations

CONF = Path(translations.__file__).parent / "conf"
WORDS = [f"hydra.searchpath=[file://{CONF}]", "data=translations"]


@pytest.fixture(autouse=True)
def _trust(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTLAB_TRUST", "tests")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Write pairs whose translation doubles every word of the source."""
    path, words = tmp_path / "pairs.tsv", ("king", "prophet", "river", "mountain", "servant")
    lines = [(words[i % 5], words[i // 5 % 5]) for i in range(100)]
    table = [f"{a} {b}\t{a} {a} {b} {b}" for a, b in lines]
    path.write_text("\n".join(["source\ttarget", *table]) + "\n", encoding="utf-8")
    return path


def test_a_fifth_kind_of_data_is_one_folder_one_yaml_and_one_test(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is shown, trained on, measured and logged to TensorBoard without an edit of gptlab."""
    run = tmp_path / "run"
    words = [*WORDS, f"data.path={pairs}", "head=instruction", *TINY]

    data.main(words)
    assert "100 translations" in capsys.readouterr().out

    main([*words, "trainer.max_steps=6", f"output_dir={run}"])
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert summary["next_command"].startswith(f"gptlab generate run={run} prompt=")
    assert "training on 80 translations, validation on 20" in (run / "train.log").read_text(encoding="utf-8")
    (event,) = EventAccumulator(str(run)).Reload().Tensors("run/first_batch/text_summary")
    assert "a translation: row 1 of 4" in event.tensor_proto.string_val[0].decode()

    capsys.readouterr()
    evaluate.main([f"run={run}", "output=json", "n_answers=3"])
    out = capsys.readouterr().out
    report = json.loads(out[out.index("{") :])  # after the log lines of the run before, whose handlers stay
    for name in ("loss", "perplexity", "accuracy"):
        assert report["metrics"][name]["value"] == pytest.approx(summary["best"][f"val/{name}"], rel=1e-5)
        assert report["metrics"][name]["low"] <= report["metrics"][name]["value"] <= report["metrics"][name]["high"]
    assert report["rows"] == 20
    assert report["answers"]["token_f1"]["n"] == 3


def test_its_batch_keys_are_checked_against_the_heads(pairs: Path) -> None:
    with pytest.raises(ConfigError, match="ClassifierHead needs labels, lengths, which TranslationData does not give"):
        compose_config("train", [*WORDS, f"data.path={pairs}", "head=classifier"])
