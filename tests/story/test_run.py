"""The story of one run: trained, inspected, opened, generating text."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import gptlab as package
from gptlab.commands.cli import main as gptlab
from gptlab.commands.train import main
from gptlab.run import Run
from tests.conftest import TINY, TrainedRun


def test_a_run_folder_holds_all_of_the_run(tiny_run: TrainedRun) -> None:
    there = {str(path.relative_to(tiny_run.folder)) for path in tiny_run.folder.rglob("*") if path.is_file()}
    for name in (".hydra/config.yaml", "train.log", "summary.json", "checkpoints/best.ckpt", "checkpoints/last.ckpt"):
        assert name in there
    assert any(name.startswith("events.out") for name in there)


def test_the_summary_has_the_results_of_the_run(tiny_run: TrainedRun) -> None:
    summary = tiny_run.summary
    assert summary["status"] == "finished"
    assert summary["steps"] == 30
    assert summary["tokens"] == 30 * 4 * 32
    assert summary["tokens_per_second"] == pytest.approx(summary["tokens"] / summary["seconds"], rel=0.01)
    assert set(summary["checkpoints"]) == {"best", "last"}
    for stage, prefix in (("train", "train"), ("val", "val"), ("best", "val")):
        metrics = summary[stage]
        assert metrics[f"{prefix}/perplexity"] == pytest.approx(math.exp(metrics[f"{prefix}/loss"]), rel=1e-4)
        assert 0 < metrics[f"{prefix}/bits_per_byte"] < 3
    assert tiny_run.best == summary["best"]["val/loss"]
    assert summary["best"]["val/loss"] <= summary["val"]["val/loss"] + 1e-6
    assert summary["val"]["val/loss"] < math.log(300) - 1, "the toy language was not learned"


def test_tensorboard_finds_curves_and_samples(tiny_run: TrainedRun) -> None:
    events = EventAccumulator(str(tiny_run.folder)).Reload()
    wanted = {"train/loss", "train/perplexity", "weights/lr", "work/tokens_per_second", "val/loss"}
    assert wanted <= set(events.Tags()["scalars"])
    assert [e.step for e in events.Scalars("val/loss")] == [10, 20, 30]
    assert [e.step for e in events.Tensors("samples/text_summary")] == [10, 20, 30]
    assert b"And the" in events.Tensors("samples/text_summary")[-1].tensor_proto.string_val[0]
    assert set(events.Tags()["images"]) == {"val_samples/probabilities", "val_samples/held_out", "val_attention/maps"}
    for tag in events.Tags()["images"]:
        assert [event.step for event in events.Images(tag)] == [10, 20, 30]


def test_a_checkpoint_alone_is_enough_and_opening_writes_nothing(
    tiny_run: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint is moved out of its folder, without the cache and the training text."""
    path = Path(shutil.copy(tiny_run.folder / "checkpoints" / "best.ckpt", tmp_path))
    monkeypatch.setenv("GPTLAB_CACHE", "/dev/null/no-cache")
    written = Run.open(tiny_run.folder).generate("And the king", temperature=0, max_new_tokens=12)
    assert Run.open(path).generate("And the king", temperature=0, max_new_tokens=12) == written
    assert [p.name for p in tmp_path.iterdir()] == ["best.ckpt"]
    content = torch.load(path, weights_only=True)  # tensors and plain values only
    assert "optimizer_states" not in content
    assert content["gptlab"]["config"]["name"] == "tiny"


def test_the_best_checkpoint_has_the_best_validation(tiny_run: TrainedRun) -> None:
    from contextlib import nullcontext

    from gptlab.config.compose import compose_config
    from gptlab.evaluation.inference import compute_metrics

    run = Run.open(tiny_run.folder)
    overrides = [*TINY, "data=text", f"data.path={tiny_run.text}"]
    data = Run.compose(compose_config("train", overrides)).data
    assert data is not None
    batches = [data.val[np.arange(len(data.val))]]
    found = compute_metrics(run.model, run.head, batches, stage="val", forward_context=nullcontext)
    assert found["val/loss"] == pytest.approx(tiny_run.summary["best"]["val/loss"], rel=1e-5)


def test_the_same_command_gives_the_same_run(tiny_run: TrainedRun, tmp_path: Path) -> None:
    text = [*TINY, "data=text", f"data.path={tiny_run.text}", "trainer.max_steps=4", "model.drop_rate=0.1"]
    for name, seed in (("a", 123), ("b", 123), ("c", 5)):
        main([*text, f"output_dir={tmp_path / name}", f"seed={seed}"])
    a, b, c = (torch.load(tmp_path / n / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for n in "abc")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not all(torch.equal(a[key], c[key]) for key in a)


def test_logits_with_and_without_a_cache(tiny_run: TrainedRun) -> None:
    run = Run.open(tiny_run.folder)
    ids = torch.tensor([run.tokenizer.encode("And the king saw the river.")])
    cache = run.model.new_cache(32)
    parts = [run.logits(ids[:, :5], cache), run.logits(ids[:, 5:], cache)]
    torch.testing.assert_close(torch.cat(parts, dim=1), run.logits(ids), rtol=1e-5, atol=1e-5)


def test_generate_writes_the_same_text_every_way(tiny_run: TrainedRun, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["generate", f"run={tiny_run.folder}", "prompt=And the", "sampling.max_new_tokens=60", "seed=7"]
    shown = []
    for more in ([], ["cache=false"], ["output=json"], ["n_samples=2"], ["sampling=greedy", "sampling.stop=[king]"]):
        assert gptlab([*words, *more]) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0].startswith("And the")
    assert shown[0] == shown[1]
    assert json.loads(shown[2])["prompt"] + json.loads(shown[2])["texts"][0] + "\n" == shown[0]
    assert shown[3].count("--- ") == 2
    assert "king" not in shown[4].removeprefix("And the")


@pytest.mark.parametrize("prompt", ["Lo, and (behold): {x} [y] ${z} = 'q\" \\ #", "a,b", "", "null", "3"])
def test_a_prompt_is_taken_as_it_was_typed(
    prompt: str, tiny_run: TrainedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    for typed in (prompt, f'"{prompt}"'):
        assert gptlab(["generate", f"run={tiny_run.folder}", f"prompt={typed}", "output=json"]) == 0
        assert json.loads(capsys.readouterr().out)["prompt"] == prompt


def test_an_empty_prompt_begins_a_document(tiny_run: TrainedRun) -> None:
    # one document never trains the token after a beginning of text: the penalty prevents repeating it
    assert Run.open(tiny_run.folder).generate("", max_new_tokens=5, temperature=0, repetition_penalty=3.0)


def test_gptlab_data_shows_the_training_rows(tiny_run: TrainedRun, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data", *TINY, "data=text", f"data.path={tiny_run.text}"]
    assert gptlab([*words, "output=json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["vocab_size"] == 300
    assert gptlab(words) == 0
    shown = capsys.readouterr().out
    assert "bytes per token" in shown
    assert "inputs" in shown
    assert "(32, 32)" in shown  # one window's vectors


def test_a_fourth_head_is_one_file_and_one_yaml(
    tiny_run: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test of the design: it is trained, measured, saved and opened without an edit of gptlab."""
    monkeypatch.setenv("GPTLAB_TRUST", "tests")
    head = ["head._target_=tests.support.length_head.LengthHead", "~head.tied", "~head.loss_chunk_rows"]
    more = ["trainer.max_steps=3", f"output_dir={tmp_path / 'run'}", "+head.scale=2.0"]
    best = main([*TINY, "data=text", f"data.path={tiny_run.text}", *head, *more])
    assert best is not None
    summary = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    assert summary["val"]["val/error"] == pytest.approx(best)
    opened = Run.open(tmp_path / "run").head.lengths  # in no checkpoint: it is recomputed
    assert opened.sum() == 2.0 * Run.open(tiny_run.folder).tokenizer.token_bytes().sum()


def test_a_part_that_is_null_is_left_out(tiny_run: TrainedRun, tmp_path: Path) -> None:
    off = ["callbacks.samples=null", "logger.tensorboard=null", "callbacks.probes=null"]
    more = ["trainer.max_steps=2", f"output_dir={tmp_path / 'run'}"]
    main([*TINY, "data=text", f"data.path={tiny_run.text}", *off, *more])
    assert not list((tmp_path / "run").glob("events.out.*"))


def test_early_stopping_ends_a_run_that_no_longer_gets_better(toy_text: Path, tmp_path: Path) -> None:
    slow = [
        "optim=adamw",
        "optim.lr=1e-12",
        "callbacks.early_stopping.min_delta=0.01",
        "callbacks.early_stopping.patience=2",
    ]
    more = ["trainer.max_steps=30", "trainer.val_check_interval=2", f"output_dir={tmp_path / 'run'}"]
    main([*TINY, "data=text", f"data.path={toy_text}", *slow, *more])
    summary = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    assert summary["status"] == "stopped early"
    assert summary["steps"] == 6  # the first validation, and two that were no better


def test_a_precision_by_name_is_the_one_that_is_used(toy_text: Path, tmp_path: Path) -> None:
    more = ["trainer.max_steps=2", "trainer.precision=bf16-mixed", f"output_dir={tmp_path / 'run'}"]
    main([*TINY, "data=text", f"data.path={toy_text}", *more])
    summary = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    assert summary["precision"] == "bf16-mixed"


def test_a_run_is_imported_from_the_package() -> None:
    assert package.Run is Run
    with pytest.raises(AttributeError, match="has no attribute 'Model'"):
        package.Model  # noqa: B018
