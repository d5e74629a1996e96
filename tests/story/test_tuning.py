"""A run that trains an adapter: its checkpoints are small, and with the base they are the whole run."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gptlab.batch import Batch
from gptlab.commands import export, generate
from gptlab.commands.train import main
from gptlab.config.compose import compose_config
from gptlab.model.lora import adapter_off, adapters, merge
from gptlab.run import Run
from gptlab.workflows.precision import cast_weights
from tests.conftest import TINY, TrainedRun
from tests.story.test_resume import assert_same, assert_same_run, lines, state, stopping

RUN = (
    *(word for word in TINY if not word.startswith(("model.", "tokenizer."))),
    "weights=run",
    "model=pretrained",
    "tokenizer=pretrained",
    "data=text",
    "tuning=lora",
    "tuning.rank=2",
    "tuning.drop_rate=0.2",
    "optim=adamw",
    "schedule=constant",
    "schedule.warmup_steps=0",
    "logger=none",
)
RESUMED = (
    "data.batch_size=3",
    "trainer.max_steps=16",
    "trainer.val_check_interval=4",
    "trainer.accumulate_grad_batches=2",
    "callbacks.last_checkpoint.every_n_train_steps=3",
    "+callbacks.watch._target_=tests.support.watch.Watch",
    "+callbacks.watch._partial_=true",
)
IDS = torch.arange(12)[None] + 60


@pytest.fixture(scope="module", autouse=True)
def _trusted() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPTLAB_TRUST", "tests")
        yield


@pytest.fixture(scope="module")
def base(tiny_run: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a trained run's best weights, which these tests move."""
    folder = tmp_path_factory.mktemp("base") / "tiny"
    shutil.copytree(tiny_run.folder, folder)
    return folder


@pytest.fixture(scope="module")
def words(tiny_run: TrainedRun, base: Path) -> list[str]:
    return [*RUN, f"data.path={tiny_run.text}", f"weights.run={base}"]


@pytest.fixture(scope="module")
def straight(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train the uninterrupted run."""
    folder = tmp_path_factory.mktemp("lora") / "run"
    main([*words, *RESUMED, f"output_dir={folder}", *stopping(None, "error")])
    return folder


@pytest.fixture
def stopped(words: list[str], tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Interrupt the same run in its tenth batch, within a step."""
    with pytest.raises((SystemExit, RuntimeError)):
        main([*words, *RESUMED, f"output_dir={tmp_path / 'run'}", *stopping(9, request.param)])
    return tmp_path / "run"


def error_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 1
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_checkpoints_hold_the_adapter_and_name_the_base(straight: Path, base: Path) -> None:
    for name in ("best.ckpt", "last.ckpt"):
        content = torch.load(straight / "checkpoints" / name, weights_only=True)
        assert {part.rpartition(".")[2] for part in content["state_dict"]} == {"lora_a", "lora_b"}
        named = content["gptlab"]["base"]
        assert named["path"] == str(base / "checkpoints" / "best.ckpt")
        sha256 = (base / "checkpoints" / "best.ckpt.sha256").read_text(encoding="utf-8").split()[0]
        assert named["sha256"] == [["best.ckpt", sha256]]
    (group,) = (state(straight)["optimizer_states"][0]["state"],)
    assert len(group) == len(state(straight)["state_dict"])
    best, whole = (folder / "checkpoints" / "best.ckpt" for folder in (straight, base))
    assert best.stat().st_size < whole.stat().st_size / 2


@pytest.mark.parametrize("stopped", ["SIGTERM", "error"], indirect=True)
def test_an_interrupted_run_resumes_bit_for_bit(stopped: Path, straight: Path) -> None:
    assert state(stopped)["global_step"] < 16
    main([f"resume={stopped}", "callbacks.watch.stop_at=null"])
    assert_same_run(stopped, straight, n_samples=5)  # with those before the first step


@pytest.mark.parametrize("stopped", ["SIGTERM"], indirect=True)
def test_another_base_is_refused(stopped: Path, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = base / "checkpoints" / "best.ckpt"
    before = file.read_bytes()
    try:
        flipped = bytearray(before)
        flipped[len(before) // 2] ^= 1  # in a tensor, so that it loads without an error
        file.write_bytes(flipped)
        sentence = error_of([f"resume={stopped}"], capsys)
    finally:
        file.write_bytes(before)
    assert sentence.startswith(f"{file} has changed since the run of {stopped}")
    assert sentence.endswith("restore the old file, or start a new run")


def test_an_opened_adapter_run_is_its_base_plus_the_adapter(straight: Path, base: Path) -> None:
    run, before = Run.open(straight), Run.open(base)
    assert len(adapters(run.model)) == 2 * len(adapters(run.model.blocks[0]))
    with adapter_off(run.model):
        assert torch.equal(run.logits(IDS), before.logits(IDS))
    logits = run.logits(IDS)
    assert (logits - before.logits(IDS)).abs().max() > 0.1
    merge(run.model)
    torch.testing.assert_close(run.logits(IDS), logits, rtol=1e-5, atol=1e-5)
    text = run.generate("And the", temperature=0, max_new_tokens=6)
    assert Run.open(straight).generate("And the", temperature=0, max_new_tokens=6) == text


def test_opening_draws_no_random_numbers(straight: Path) -> None:
    before = torch.get_rng_state()
    Run.open(straight)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_opened_weights_have_the_recorded_validation(straight: Path) -> None:
    """The best checkpoint reproduces the best validation."""
    from gptlab.commands import evaluate

    summary = json.loads((straight / "summary.json").read_text(encoding="utf-8"))
    evaluate.main([f"run={straight}", "n_questions=0"])
    report = json.loads((straight / "evaluation" / "val.json").read_text(encoding="utf-8"))
    assert report["metrics"]["loss"]["value"] == pytest.approx(summary["best"]["val/loss"], abs=1e-4)


def test_a_missing_base_can_be_restored_beside_the_run(
    straight: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logits, run = Run.open(straight).logits(IDS), tmp_path / "run"
    shutil.copytree(straight, run)
    away = base.rename(tmp_path / "away")
    try:
        with pytest.raises(SystemExit):
            generate.main([f"run={run}", "prompt=And"])
        sentence = capsys.readouterr().err
        assert f"they are not at {base / 'checkpoints' / 'best.ckpt'} (sha256 " in sentence
        assert sentence.strip().endswith(f"bring them back, or put them, or a link to them, at {run / 'base'}")
        (run / "base").symlink_to(away)
        assert torch.equal(Run.open(run).logits(IDS), logits)
    finally:
        away.rename(base)


def test_a_changed_base_is_refused_when_the_run_is_opened(straight: Path, base: Path) -> None:
    file = base / "checkpoints" / "best.ckpt"
    before = file.read_bytes()
    try:
        flipped = bytearray(before)
        flipped[len(before) // 2] ^= 1
        file.write_bytes(flipped)
        with pytest.raises(ValueError, match=r"has changed since the run of .* began: restore the old file"):
            Run.open(straight)
    finally:
        file.write_bytes(before)
    assert Run.open(straight)  # rewritten, but equal


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_a_new_run_starts_from_base_and_adapter(
    tuning: str, words: list[str], straight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first adapter is merged. An adapter on an adapter depends on both runs' files."""
    more = [f"weights.run={straight}", f"tuning={tuning}", "callbacks=none", "trainer.max_steps=1"]
    own = [word for word in words if not word.startswith("tuning")]
    best = "+callbacks.best_checkpoint._target_=gptlab.training.callbacks.checkpoints.BestCheckpoint"
    main(
        [
            *own,
            *more,
            best,
            "+callbacks.best_checkpoint._partial_=true",
            "optim.lr=1e-12",
            f"output_dir={tmp_path / 'on'}",
        ]
    )
    run = Run.open(tmp_path / "on")
    torch.testing.assert_close(run.logits(IDS), Run.open(straight).logits(IDS), rtol=1e-4, atol=1e-4)
    if tuning == "lora":
        content = torch.load(tmp_path / "on" / "checkpoints" / "best.ckpt", weights_only=True)
        assert len(content["gptlab"]["base"]["sha256"]) == 2


def test_a_fresh_head_is_trained_and_stored(words: list[str], base: Path, tmp_path: Path) -> None:
    """It is passed on with the adapter to the next run, but peft's folder cannot hold it."""
    rows = (f"{'ham' if i % 2 else 'spam'},the king saw {i} rivers\n" for i in range(40))
    (tmp_path / "rows.csv").write_text("label,text\n" + "".join(rows), encoding="utf-8")
    own = ["head=classifier", "data=csv", f"data.path={tmp_path / 'rows.csv'}"]
    best = "+callbacks.best_checkpoint._target_=gptlab.training.callbacks.checkpoints.BestCheckpoint"
    short = ["trainer.max_steps=3", "callbacks=none", best, "+callbacks.best_checkpoint._partial_=true"]
    main([*words, *own, *short, f"output_dir={tmp_path / 'one'}"])
    stored = torch.load(tmp_path / "one" / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert {name for name in stored if name.startswith("head.")} == {"head.out.weight"}
    run = Run.open(tmp_path / "one")
    assert torch.equal(run.head.out.weight, stored["head.out.weight"])
    assert torch.equal(run.model.tok_emb.weight, Run.open(base).model.tok_emb.weight)
    main([*words, *own, *short, f"weights.run={tmp_path / 'one'}", "optim.lr=1e-12", f"output_dir={tmp_path / 'two'}"])
    on = Run.open(tmp_path / "two")
    batch = Batch(ids=IDS, lengths=torch.tensor([12]))
    with torch.no_grad():
        ours, theirs = (each.head(each.model(IDS), batch) for each in (on, run))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    with pytest.raises(SystemExit):
        export.main([f"run={tmp_path / 'one'}", f"to={tmp_path / 'adapter'}", "adapter=true"])


def test_exported_whole_and_as_an_adapter(
    straight: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    export.main([f"run={straight}", f"to={tmp_path / 'whole'}"])
    torch.testing.assert_close(
        Run.open(tmp_path / "whole").logits(IDS), Run.open(straight).logits(IDS), rtol=1e-4, atol=1e-4
    )
    with caplog.at_level("WARNING"):
        export.main([f"run={straight}", f"to={tmp_path / 'adapter'}", "adapter=true"])
    assert f"the base is a run, {base / 'checkpoints' / 'best.ckpt'}: export it too" in caplog.text
    assert "adapter_config.json, adapter_model.safetensors" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        export.main([f"run={base}", f"to={tmp_path / 'none'}", "adapter=true"])
    assert "adapter=true needs a run with tuning=lora" in capsys.readouterr().err


def test_the_log_names_the_trained_weights(straight: Path) -> None:
    log = (straight / "train.log").read_text(encoding="utf-8")
    assert "training adapters of rank 2 on attention.qkv, attention.out, ff.up, ff.out" in log
    n_learning = sum(tensor.numel() for tensor in state(straight)["state_dict"].values())
    assert f"parameters ({n_learning:,} trainable, " in log


def test_an_adapter_needs_weights(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    sentence = error_of([*TINY, "tuning=lora", f"output_dir={tmp_path}"], capsys)
    assert sentence.startswith("tuning=lora trains adapters of pretrained weights, but weights=scratch has none")


def folder_of(base: Path, folder: Path, *, precision: str) -> Path:
    """Export a run in bfloat16; `32-true`: the same numbers, stored in float32."""
    export.main([f"run={base}", f"to={folder}", "precision=bf16-true"])
    if precision == "32-true":
        weights, config = folder / "model.safetensors", folder / "config.json"
        save_file({name: tensor.float() for name, tensor in load_file(weights).items()}, weights)
        config.write_text(config.read_text().replace("bfloat16", "float32"), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def folders(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a folder of bfloat16 numbers, and one of the same numbers stored in float32."""
    place = tmp_path_factory.mktemp("stored")
    return {name: folder_of(base, place / name, precision=name) for name in ("bf16-true", "32-true")}


def on_folder(words: list[str], folder: Path) -> list[str]:
    own = [word for word in words if not word.startswith("weights")]
    return [*own, "weights=hf", f"weights.path={folder}"]


@pytest.fixture(scope="module")
def from_bf16(words: list[str], folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train the uninterrupted run on the folder in bfloat16."""
    folder = tmp_path_factory.mktemp("bf16") / "run"
    main([*on_folder(words, folders["bf16-true"]), *RESUMED, f"output_dir={folder}", *stopping(None, "error")])
    return folder


@pytest.mark.parametrize("precision", [pytest.param("32-true", marks=pytest.mark.slow), "bf16-mixed"])
def test_a_base_in_bfloat16_trains_as_its_copy_in_float32(
    precision: str, words: list[str], folders: dict[str, Path], tmp_path: Path
) -> None:
    short = [*RESUMED, f"trainer.precision={precision}", "trainer.max_steps=6", *stopping(None, "error")]
    for name, folder in folders.items():
        main([*on_folder(words, folder), *short, f"output_dir={tmp_path / name}"])
    ours, theirs = (state(tmp_path / name) for name in folders)
    for key in ("state_dict", "optimizer_states"):
        assert_same(ours[key], theirs[key])
    assert lines(tmp_path / "bf16-true") == lines(tmp_path / "32-true")


def test_a_run_on_bfloat16_resumes_bit_for_bit(
    words: list[str], folders: dict[str, Path], from_bf16: Path, tmp_path: Path
) -> None:
    stopped = tmp_path / "run"
    with pytest.raises(SystemExit):
        main([*on_folder(words, folders["bf16-true"]), *RESUMED, f"output_dir={stopped}", *stopping(9, "SIGTERM")])
    main([f"resume={stopped}", "callbacks.watch.stop_at=null"])
    assert_same_run(stopped, from_bf16, n_samples=5)


def dtypes(run: Run) -> dict[str, set[torch.dtype]]:
    """Return the dtypes of the matrices, of norms and biases, and of what is trained."""
    named = [(name, p) for part in (run.model, run.head) for name, p in part.named_parameters()]
    return {
        "matrices": {p.dtype for _, p in named if p.ndim == 2 and not p.requires_grad},
        "vectors": {p.dtype for _, p in named if p.ndim == 1},
        "trained": {p.dtype for _, p in named if p.requires_grad},
    }


def test_a_frozen_base_keeps_its_stored_format(
    words: list[str], folders: dict[str, Path], from_bf16: Path, tmp_path: Path
) -> None:
    """That holds for a composed and for an opened run; what is merged or cast is in the adapter's format."""
    cfg = compose_config("train", [*on_folder(words, folders["bf16-true"]), f"output_dir={tmp_path}"])
    for run in (Run.compose(cfg), Run.open(from_bf16)):
        found = dtypes(run)
        assert (found["matrices"], found["trained"]) == ({torch.bfloat16}, {torch.float32})
        assert found["vectors"] <= {torch.float32}
    logits = run.logits(IDS)
    cast_weights(run, "32-true")
    assert torch.equal(run.logits(IDS), logits)
    export.main([f"run={from_bf16}", f"to={tmp_path / 'whole'}"])
    whole = Run.open(tmp_path / "whole")
    assert {p.dtype for p in whole.model.parameters()} == {torch.float32}
    torch.testing.assert_close(whole.logits(IDS), logits, rtol=1e-4, atol=1e-4)


def test_a_fresh_head_begins_random_and_in_float32(words: list[str], folders: dict[str, Path], tmp_path: Path) -> None:
    """The base is not drawn at random first, but the head that it does not have is, from the seed."""
    (tmp_path / "rows.csv").write_text("label,text\nham,the king\nspam,the river\n" * 20, encoding="utf-8")
    own = ["head=classifier", "head.class_weights=balanced", "data=csv", f"data.path={tmp_path / 'rows.csv'}"]
    cfg = compose_config("train", [*on_folder(words, folders["bf16-true"]), *own, f"output_dir={tmp_path}"])
    runs = [Run.compose(cfg) for _ in range(2)]
    heads = [run.head.out.weight for run in runs]
    assert torch.equal(*heads)
    assert (heads[0].dtype, heads[0].requires_grad) == (torch.float32, True)
    assert 0.01 < heads[0].std() < 0.04
    assert torch.isfinite(runs[0].head.class_weights).all()
