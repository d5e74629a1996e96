"""A run from pretrained weights validates before its first step, and says so if it ends worse than it began."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gptlab.commands import evaluate, export
from gptlab.commands.train import main
from gptlab.config.record import foreign_entries, without_foreign
from gptlab.run import Run
from tests.conftest import TINY, TrainedRun, write_text
from tests.story.test_resume import assert_same, assert_same_run, state, stopping, summary

RUN = (
    *(word for word in TINY if not word.startswith(("model.", "tokenizer."))),
    "weights=run",
    "model=pretrained",
    "tokenizer=pretrained",
    "data=text",
    "optim=adamw",
    "schedule=constant",
    "schedule.warmup_steps=0",
    "trainer.max_steps=4",
    "trainer.val_check_interval=2",
    "callbacks.samples.prompt=And",
)
GOOD, BAD = "optim.lr=1e-3", "optim.lr=0.3"
RESUMED = (
    "name=resumed",
    "data.batch_size=3",
    "model.drop_rate=0.2",
    "trainer.max_steps=16",
    "trainer.val_check_interval=4",
    "trainer.accumulate_grad_batches=2",
    "trainer.log_every_n_steps=1",
    "callbacks.last_checkpoint.every_n_train_steps=3",
    "callbacks.samples.every_n_validations=1",
    "+callbacks.watch._target_=tests.support.watch.Watch",
    "+callbacks.watch._partial_=true",
)


@pytest.fixture(scope="module", autouse=True)
def _trusted() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPTLAB_TRUST", "tests")
        yield


def further(run: TrainedRun, folder: Path, *words: str) -> Path:
    """Train a run's best weights further on its own text."""
    main([*RUN, f"weights.run={run.folder}", f"data.path={run.text}", f"output_dir={folder}", *words])
    return folder


@pytest.fixture(scope="module")
def better(tiny_run: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return further(tiny_run, tmp_path_factory.mktemp("better") / "run", GOOD)


@pytest.fixture(scope="module")
def worse(tiny_run: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return further(tiny_run, tmp_path_factory.mktemp("worse") / "run", BAD)


def test_the_weights_are_validated_before_the_first_step(better: Path, tiny_run: TrainedRun) -> None:
    found = summary(better)
    assert found["start"] == pytest.approx(tiny_run.summary["best"], rel=1e-5)
    assert found["started_from"] == str(tiny_run.folder / "checkpoints" / "best.ckpt")
    assert found["best"]["val/loss"] < found["start"]["val/loss"]
    assert found["best_step"] == 4
    assert "comparison" not in found
    log = (better / "train.log").read_text(encoding="utf-8")
    assert re.findall(r"step (\d)/4 · (?:train/loss|val/loss)", log) == ["0", "2", "4"]
    assert "nan" not in log
    events = EventAccumulator(str(better)).Reload()
    assert [event.step for event in events.Scalars("val/loss")] == [0, 2, 4]
    assert [event.step for event in events.Scalars("val/word_order")] == [0, 2, 4]
    assert [event.step for event in events.Tensors("samples/text_summary")] == [0, 2, 4]
    assert [event.step for event in events.Images("val_attention/maps")] == [0, 2, 4]


def test_random_weights_are_not_validated_before_the_first_step(tiny_run: TrainedRun) -> None:
    assert not {"start", "started_from", "best_trained", "comparison"} & tiny_run.summary.keys()
    assert "step 0/" not in (tiny_run.folder / "train.log").read_text(encoding="utf-8")


def test_the_first_validation_changes_no_weight(better: Path, tiny_run: TrainedRun, tmp_path: Path) -> None:
    """Nor does a second text: the random numbers and the order of the data stay the same."""
    text = f"callbacks.forgetting.path={tiny_run.text}"
    without = further(tiny_run, tmp_path / "without", GOOD, "~callbacks.start_validation", "model.drop_rate=0.2")
    with_it = further(tiny_run, tmp_path / "with", GOOD, text, "model.drop_rate=0.2")
    for key in ("state_dict", "optimizer_states"):
        assert_same(state(with_it)[key], state(without)[key])
    assert "start" not in summary(without)
    assert not torch.equal(*(next(iter(state(folder)["state_dict"].values())) for folder in (better, without)))


def test_a_run_that_makes_the_model_worse_says_so(
    worse: Path, tiny_run: TrainedRun, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    found, base = summary(worse), str(tiny_run.folder / "checkpoints" / "best.ckpt")
    assert (found["status"], found["best_step"], found["best"]) == ("finished", 0, found["start"])
    assert [path.name for path in (worse / "checkpoints").glob("*.ckpt")] == ["last.ckpt"]
    trained = found["best_trained"]["val/loss"]
    assert trained > found["start"]["val/loss"]
    start, end = found["start"]["val/loss"], found["val"]["val/loss"]
    numbers = f"val loss {start:.4g} at the start, {trained:.4g} at its best after it, {end:.4g} at the end"
    advice = f"its best weights are those it started from, {base}: use them, or train again with a lower optim.lr"
    assert found["comparison"] == f"the run made the model worse: {numbers}; {advice}"
    assert found["next_command"].startswith(f"gptlab generate run={base} ")
    assert "WARNING the run made the model worse: val loss" in (worse / "train.log").read_text(encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        opened = Run.open(worse)
    assert f"{worse}: its weights are worse than those it started from: {base}" in caplog.messages
    assert torch.equal(opened.model.tok_emb.weight, state(worse)["state_dict"]["model.tok_emb.weight"])
    export.main([f"run={worse}", f"to={tmp_path / 'model'}"])
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert f"| loss | {found['val']['val/loss']:.4g} |" in card  # not the numbers of other weights
    assert "| best" not in card


def test_patience_counts_from_the_start(tiny_run: TrainedRun, tmp_path: Path) -> None:
    folder = further(tiny_run, tmp_path / "run", BAD, "callbacks.early_stopping.patience=1")
    assert (summary(folder)["status"], summary(folder)["steps"]) == ("stopped early", 2)


def test_the_state_survives_resuming(worse: Path, tiny_run: TrainedRun, tmp_path: Path) -> None:
    short = further(tiny_run, tmp_path / "run", BAD, "trainer.max_steps=2")
    main([f"resume={short}", "trainer.max_steps=4"])
    ours, theirs = summary(short), summary(worse)
    for key in ("start", "started_from", "best", "best_step", "best_trained", "val", "comparison", "next_command"):
        assert ours[key] == theirs[key]
    assert (short / "train.log").read_text(encoding="utf-8").count("step 0/") == 1


@pytest.fixture(scope="module")
def straight(tiny_run: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train the uninterrupted run."""
    text = write_text(tmp_path_factory.mktemp("text") / "toy.txt", 870)
    words = [*RESUMED, GOOD, f"data.path={text}", *stopping(None, "error")]
    return further(tiny_run, tmp_path_factory.mktemp("straight") / "run", *words)


@pytest.mark.parametrize(
    ("stop_at", "how", "saved"),
    [
        pytest.param(4, "SIGTERM", 3, id="before the first validation after the start", marks=pytest.mark.slow),
        pytest.param(9, "SIGINT", 5, id="amid an epoch"),
        pytest.param(15, "validation", 8, id="amid a validation", marks=pytest.mark.slow),
        pytest.param(17, "error", 6, id="by an error, three batches after the last checkpoint"),
    ],
)
def test_an_interrupted_run_resumes_bit_for_bit(
    stop_at: int, how: str, saved: int, straight: Path, tiny_run: TrainedRun, tmp_path: Path
) -> None:
    path = Run.open(straight).cfg.data.path
    with pytest.raises((SystemExit, RuntimeError)):
        further(tiny_run, tmp_path / "run", *RESUMED, GOOD, f"data.path={path}", *stopping(stop_at, how))
    assert state(tmp_path / "run")["global_step"] == saved
    assert summary(tmp_path / "run")["start"] == summary(straight)["start"]
    main([f"resume={tmp_path / 'run'}", "callbacks.watch.stop_at=null"])
    assert_same_run(tmp_path / "run", straight, n_samples=5)
    assert summary(tmp_path / "run")["start"] == summary(straight)["start"]


def test_a_run_stopped_during_its_first_validation_saves_nothing(
    tiny_run: TrainedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="143"):
        further(tiny_run, tmp_path / "run", *RESUMED, GOOD, *stopping(None, "start"))
    assert (summary(tmp_path / "run")["status"], summary(tmp_path / "run")["steps"]) == ("interrupted", 0)
    log = (tmp_path / "run" / "train.log").read_text(encoding="utf-8")
    assert "interrupted at step 0; nothing was saved before" in log
    with pytest.raises(SystemExit):
        main([f"resume={tmp_path / 'run'}"])
    assert "is a run that has saved no checkpoint" in capsys.readouterr().err


def test_a_sweep_compares_what_training_did(
    tiny_run: TrainedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both jobs are worse than the base, and still one is the better."""
    words = [*RUN, f"weights.run={tiny_run.folder}", f"data.path={tiny_run.text}", "optim.lr=0.3,0.2", "-m"]
    main([*words, f"hydra.sweep.dir={tmp_path}", "~callbacks.samples"])
    folders = [tmp_path / "000_lr-0.3", tmp_path / "001_lr-0.2"]
    found = [json.loads((folder / "summary.json").read_text(encoding="utf-8")) for folder in folders]
    for folder, one in zip(folders, found, strict=True):
        record = json.loads((folder / "status.json").read_text(encoding="utf-8"))
        assert record["value"] == one["best_trained"]["val/loss"] > one["best"]["val/loss"]
        events = EventAccumulator(str(folder)).Reload()
        assert events.Scalars("val_best/loss")[-1].value == pytest.approx(record["value"])
    shown, base = capsys.readouterr().out, tiny_run.folder / "checkpoints" / "best.ckpt"
    start = f"{found[0]['start']['val/loss']:.4g}"
    assert f"jobs 0, 1: no better than the weights at the start, {base}, with {start}" in " ".join(shown.split())
    assert f"Next, with the weights that the jobs started from\n  gptlab generate run={base} " in shown


def test_the_start_of_a_new_head_is_not_one_to_beat(tiny_run: TrainedRun, tmp_path: Path) -> None:
    """Its weights are random and kept nowhere, so the best is one after a step."""
    rows = "".join(f"label{n % 2}\tthe {word} {n}\n" for n, word in enumerate(["king", "river"] * 40))
    (tmp_path / "rows.tsv").write_text("label\ttext\n" + rows, encoding="utf-8")
    words = ["head=classifier", "data=csv", f"data.path={tmp_path / 'rows.tsv'}", "callbacks.early_stopping.patience=1"]
    folder = further(tiny_run, tmp_path / "run", *words, "optim.lr=2")
    found = summary(folder)
    assert found["start"]["val/loss"] < found["best"]["val/loss"]
    assert found["best_step"] > 0
    assert (folder / "checkpoints" / "best.ckpt").is_file()
    assert found["comparison"].startswith("the final weights are worse than those the run started from: val loss ")
    assert found["next_command"].startswith(f"gptlab classify run={folder} ")


def test_weights_that_give_no_numbers_are_refused(
    tiny_run: TrainedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(tiny_run.folder / "checkpoints" / "best.ckpt", weights_only=True)
    content["state_dict"]["model.final_norm.weight"].fill_(torch.nan)
    torch.save(content, tmp_path / "broken.ckpt")
    with pytest.raises(SystemExit):
        further(tiny_run, tmp_path / "run", GOOD, f"weights.run={tmp_path / 'broken.ckpt'}")
    assert f"{tmp_path / 'broken.ckpt'}: val/loss is nan before the first step: take" in capsys.readouterr().err


def test_a_general_text_is_scored_beside_each_validation(
    tiny_run: TrainedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its loss at the start is what `gptlab evaluate` measures of the base, and grows with what is forgotten."""
    other = tmp_path / "other.txt"
    other.write_text("Winter came early; nobody had cut any wood for it.\n" * 200, encoding="utf-8")
    words = [f"callbacks.forgetting.path={tiny_run.text}", "callbacks.forgetting.n_tokens=1000000", "logger=csv"]
    folder = further(tiny_run, tmp_path / "run", GOOD, *words, f"data.path={other}")
    found = summary(folder)
    capsys.readouterr()
    base = tiny_run.folder / "checkpoints" / "best.ckpt"
    evaluate.main([f"run={base}", "split=all", "n_questions=0", "output=json", "device=cpu"])
    wanted = json.loads(capsys.readouterr().out)["metrics"]
    for name in ("loss", "perplexity", "bits_per_byte"):
        assert found["start"][f"val/general_{name}"] == pytest.approx(wanted[name]["value"], rel=1e-5)
    assert found["val"]["val/general_loss"] > found["start"]["val/general_loss"]
    assert found["val"]["val/loss"] < found["start"]["val/loss"]
    log = (folder / "train.log").read_text(encoding="utf-8")
    assert f"val/general_loss {found['start']['val/general_loss']:.4g}" in log


@pytest.mark.parametrize(
    ("head", "data"),
    [
        ("instruction", ["data=chat", "data.reader.format=columns", "data.reader.response_field=answer"]),
        ("preference", ["data=preferences"]),
    ],
)
def test_every_head_that_predicts_tokens_scores_a_general_text(
    head: str, data: list[str], tiny_run: TrainedRun, tmp_path: Path
) -> None:
    """Before the first step it is the base's loss on running text, the same for each of them."""
    answers = {"chosen": "the king", "rejected": "a river"}
    asked = [{"prompt": f"Who is {n}?", "answer": "the king", **answers} for n in range(20)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, asked)), encoding="utf-8")
    words = [
        f"head={head}",
        *data,
        f"data.path={tmp_path / 'rows.jsonl'}",
        "prompt=plain",
        "model.context_length=32",
    ]
    general = [f"callbacks.forgetting.path={tiny_run.text}", "callbacks.forgetting.n_tokens=640"]
    short = ["trainer.max_steps=1", "logger=none"]
    ours = summary(further(tiny_run, tmp_path / head, GOOD, *words, *general, *short))
    theirs = summary(further(tiny_run, tmp_path / "lm", GOOD, *general, *short))
    assert ours["start"]["val/general_loss"] == pytest.approx(theirs["start"]["val/general_loss"], rel=1e-5)
    assert ours["val"]["val/general_loss"] != ours["start"]["val/general_loss"]


def test_a_text_that_cannot_be_scored_is_reported(
    tiny_run: TrainedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def error_of(*words: str) -> str:
        with pytest.raises(SystemExit) as end:
            further(tiny_run, tmp_path / "run", GOOD, *words)
        assert end.value.code == 1
        return capsys.readouterr().err

    missing = error_of("callbacks.forgetting.path=nowhere.txt")
    assert "callbacks.forgetting.path: there is no" in missing
    (tmp_path / "rows.tsv").write_text("label\ttext\n" + "a\tthe king\nb\tthe river\n" * 20, encoding="utf-8")
    rows = ["head=classifier", "data=csv", f"data.path={tmp_path / 'rows.tsv'}"]
    assert "the run's head predicts no tokens" in error_of(*rows, f"callbacks.forgetting.path={tiny_run.text}")


def test_a_strangers_general_text_is_typed_again() -> None:
    node = {"_target_": "gptlab.training.callbacks.forgetting.Forgetting", "path": "/home/ann/diary.txt"}
    cfg = {"data": {"path": "a.txt"}, "trainer": {}, "callbacks": {"forgetting": node, "other": None}, "logger": {}}
    assert foreign_entries(cfg)["callbacks.forgetting.path"] == "/home/ann/diary.txt"
    assert without_foreign(cfg)["callbacks"]["forgetting"] == {**node, "path": None}


def test_a_strangers_run_is_not_logged_to_the_strangers_account() -> None:
    loggers = {
        "wandb": {"_target_": "gptlab.training.remote_loggers.wandb", "project": "p", "entity": "mallory"},
        "mlflow": {"_target_": "gptlab.training.remote_loggers.mlflow", "tracking_uri": "http://mallory.example"},
    }
    cfg = {"data": {"path": "a.txt"}, "trainer": {}, "callbacks": {}, "logger": loggers}
    assert foreign_entries(cfg).keys() >= {"logger.wandb.entity", "logger.mlflow.tracking_uri"}
    left = without_foreign(cfg)["logger"]
    assert left["wandb"] == {**loggers["wandb"], "entity": None}
    assert left["mlflow"] == {**loggers["mlflow"], "tracking_uri": None}
    dotted = {"a.b": loggers["mlflow"], "c.d": {"_target_": "os.system"}, "wandb": None}
    left = without_foreign(cfg | {"logger": dotted})["logger"]
    assert left == {"a.b": {**loggers["mlflow"], "tracking_uri": None}, "wandb": None}, "names may hold dots"
