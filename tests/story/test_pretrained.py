"""A run is exported, opened by transformers, evaluated and trained further."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from gptlab.commands import compare, evaluate, export, generate
from gptlab.commands.train import main as train
from gptlab.config.compose import compose_config
from gptlab.run import Run
from gptlab.workflows.precision import prepare_generation, set_precision
from gptlab.workflows.run_data import running_text
from tests.conftest import TINY, TrainedRun, silence
from tests.support.template_folder import write_model

ON = ("trainer.max_steps=2", "trainer.val_check_interval=1", "schedule.warmup_steps=0", "callbacks=none", "logger=none")
OWN = ("model=pretrained", "tokenizer=pretrained")


@pytest.fixture(scope="module")
def exported(tiny_run: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "model"
    export.main([f"run={tiny_run.folder}", f"to={folder}"])
    return folder


def go_on(run: TrainedRun, folder: Path, *overrides: str) -> dict:
    """Return overrides for two more steps on the same text, the first at a learning rate of 0."""
    rest = [word for word in TINY if not word.startswith(("model.", "tokenizer."))]
    train([*rest, *ON, "data=text", f"data.path={run.text}", f"output_dir={folder}", *overrides])
    silence()  # reports that follow are read whole
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def test_transformers_opens_the_export(exported: Path, tiny_run: TrainedRun) -> None:
    """transformers gives the same ids, the same logits and the same continuation."""
    transformers = pytest.importorskip("transformers", reason="the parity tests need the dev extra")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(exported).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(exported)
    run, prompt = Run.open(tiny_run.folder), "And the king saw the"
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    assert ids[0].tolist() == run.tokenizer.encode(prompt)
    with torch.no_grad():
        torch.testing.assert_close(run.logits(ids), theirs(ids).logits, rtol=1e-4, atol=1e-4)
    written = theirs.generate(ids, max_new_tokens=16, do_sample=False)
    assert tokenizer.decode(written[0]) == prompt + run.generate(prompt, temperature=0.0, max_new_tokens=16)


@pytest.mark.parametrize(("there", "wanted"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_dtype_that_the_cpu_lacks_is_stored_but_not_computed_in(
    there: bool,
    wanted: torch.dtype,
    tiny_run: TrainedRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("gptlab.hardware.precision.cpu_multiplies_bf16", lambda: there)
    export.main([f"run={tiny_run.folder}", f"to={tmp_path / 'half'}", "precision=bf16-true"])
    for ready in (set_precision, prepare_generation):
        run = Run.open(tmp_path / "half")
        assert run.model.final_norm.weight.dtype == torch.bfloat16
        ready(run, "auto")
        assert run.model.final_norm.weight.dtype == wanted
    assert not caplog.messages  # storing the dtype costs no speed


def test_the_card_names_the_origin_of_the_model(exported: Path, tiny_run: TrainedRun) -> None:
    card = (exported / "README.md").read_text(encoding="utf-8")
    assert f"output_dir={tiny_run.folder}" in card  # the command
    assert "emb_dim: 32" in card
    assert f"| loss | {tiny_run.summary['val']['val/loss']:.4g} |" in card


def test_every_command_that_opens_a_run_opens_a_folder(
    exported: Path, tiny_run: TrainedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    how = ["prompt=And the king", "sampling=greedy", "sampling.max_new_tokens=8"]
    texts = []
    for place in (tiny_run.folder, exported):
        generate.main([f"run={place}", *how])
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]


def test_training_continues_from_a_folders_weights(exported: Path, tiny_run: TrainedRun, tmp_path: Path) -> None:
    before = tiny_run.summary["val"]["val/loss"]
    summary = go_on(
        tiny_run, tmp_path / "on", "weights=hf", f"weights.path={exported}", *OWN, "optim=adamw", "optim.lr=1e-9"
    )
    assert summary["val"]["val/loss"] == pytest.approx(before, abs=1e-3)


def test_a_run_goes_on_by_the_recipe_for_trained_weights(tiny_run: TrainedRun, tmp_path: Path) -> None:
    """No optimizer, model, tokenizer or length is named, and each validation is better than that of the start."""
    rest = ["data=text", f"data.path={tiny_run.text}", "trainer.accelerator=cpu", "trainer.precision=32-true"]
    train(
        [
            "weights=run",
            f"weights.run={tiny_run.folder}",
            *rest,
            "callbacks=none",
            "logger=csv",
            f"output_dir={tmp_path}",
        ]
    )
    lines = (tmp_path / "csv" / "metrics.csv").read_text(encoding="utf-8").splitlines()
    column = lines[0].split(",").index("val/loss")
    losses = [float(line.split(",")[column]) for line in lines[1:] if line.split(",")[column]]
    assert len(losses) > 2
    assert [*sorted(losses, reverse=True)] == losses
    assert losses[0] < tiny_run.best
    log = (tmp_path / "train.log").read_text(encoding="utf-8")
    assert re.search(r"trainer\.max_epochs=5 ends the run after \d+ of 220 steps", log)


def test_rows_are_shorter_than_what_a_pretrained_model_reads(
    tmp_path: Path, toy_text: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Training and its evaluation use rows of model.row_length; the model reads as much as before."""
    folder = write_model(tmp_path / "model", None)
    start = ["weights=hf", f"weights.path={folder}", "data=text", f"data.path={toy_text}"]
    with caplog.at_level("INFO"):
        run = Run.compose(compose_config("train", [*start, "model.row_length=16", f"output_dir={tmp_path / 'run'}"]))
    assert "training on rows of 16 tokens, of the model's 64: model.row_length=N for more" in caplog.text
    assert run.model.context_length == 64
    assert run.data is not None
    assert run.data.train[np.arange(1)]["ids"].shape == (1, 16)
    text = running_text(run, None, "val", context_length=None)
    assert text.windows.context_length == 16
    for typed, rows in (("model.context_length=32", 32), ("row_length=8", 8), ("model.row_length=null", 64)):
        run = Run.compose(compose_config("train", [*start, typed]))
        assert run.data is not None
        assert run.data.train[np.arange(1)]["ids"].shape == (1, rows)


def test_a_pretrained_run_resumes_and_opens_without_the_folder_it_began_from(
    exported: Path, tiny_run: TrainedRun, tmp_path: Path
) -> None:
    copy, folder = tmp_path / "copy", tmp_path / "on"
    shutil.copytree(exported, copy)
    go_on(
        tiny_run,
        folder,
        "weights=hf",
        f"weights.path={copy}",
        *OWN,
        "callbacks=default",
        "callbacks.samples.prompt=And",
    )
    shutil.rmtree(copy)
    train([f"resume={folder}", "trainer.max_steps=3"])
    assert json.loads((folder / "summary.json").read_text(encoding="utf-8"))["steps"] == 3
    assert Run.open(folder).generate("And the", max_new_tokens=4)


def test_weights_of_a_run_are_taken_with_its_head(tiny_run: TrainedRun, tmp_path: Path) -> None:
    folder = tmp_path / "on"
    best = json.loads((tiny_run.folder / "summary.json").read_text(encoding="utf-8"))["best"]["val/loss"]
    summary = go_on(
        tiny_run, folder, "weights=run", f"weights.run={tiny_run.folder}", *OWN, "optim=adamw", "optim.lr=1e-9"
    )
    assert summary["val"]["val/loss"] == pytest.approx(best, abs=1e-3)


def test_evaluation_equals_training_s_validation(tiny_run: TrainedRun, capsys: pytest.CaptureFixture[str]) -> None:
    last = tiny_run.folder / "checkpoints" / "last.ckpt"
    evaluate.main([f"run={last}", "output=json", "device=cpu"])
    report = json.loads(capsys.readouterr().out)
    for name in ("loss", "perplexity", "bits_per_byte"):
        found, trained = report["metrics"][name], tiny_run.summary["val"][f"val/{name}"]
        assert found["value"] == pytest.approx(trained, rel=1e-5)
        assert found["low"] < found["value"] < found["high"]
    kept = json.loads((tiny_run.folder / "evaluation" / "last-val.json").read_text(encoding="utf-8"))
    assert kept["metrics"] == report["metrics"]


def test_evaluation_does_not_depend_on_the_batch_nor_on_the_form_of_the_model(
    exported: Path, tiny_run: TrainedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    losses = []
    for place, tokens in ((tiny_run.folder, 32), (tiny_run.folder, 4096), (exported, 1000)):
        evaluate.main(
            [f"run={place}", "data=text", f"data.path={tiny_run.text}", f"batch_tokens={tokens}", "output=json"]
        )
        losses.append(json.loads(capsys.readouterr().out)["metrics"]["loss"]["value"])
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-5)


def test_evaluation_shows_a_table_and_more_context_helps(
    tiny_run: TrainedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate.main([f"run={tiny_run.folder}", "stride=4", "split=all"])
    shown = capsys.readouterr().out
    assert "bits per byte" in shown
    assert "4 new in each" in shown
    assert "last word of a passage" in shown


def test_compare_shows_differences_and_their_significance(
    exported: Path, tiny_run: TrainedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    go_on(tiny_run, tmp_path / "on", "weights=run", f"weights.run={tiny_run.folder}", *OWN, "callbacks=default")
    capsys.readouterr()
    runs = f"run=[{tiny_run.folder},{tmp_path / 'on'},{exported}]"
    data = ("data=text", f"data.path={tiny_run.text}")
    compare.main([runs, *data, "prompts=[And the king, And]", "sampling.max_new_tokens=5", "output=json"])
    report = json.loads(capsys.readouterr().out)
    first, further, same = report["models"]
    assert first["difference"] is None
    assert further["difference"]["value"] == pytest.approx(
        further["metrics"]["loss"]["value"] - first["metrics"]["loss"]["value"], abs=1e-6
    )
    assert same["difference"]["of"] == "bits_per_byte"  # its tokenizer is of another kind, with the same ids
    assert same["difference"]["value"] == pytest.approx(0, abs=1e-6)
    assert not same["difference"]["significant"]
    assert report["answers"][0]["answers"][0] == report["answers"][0]["answers"][2]
    compare.main([f"run=[{tiny_run.folder},{tmp_path / 'on'}]", "sampling.max_new_tokens=5"])
    shown = capsys.readouterr().out
    assert "trainer.max_steps" in shown
    assert "Continuations" in shown
