"""Every configuration composes, and every experiment trains."""

import json
from pathlib import Path

import pytest

from gptlab.commands.cli import VERBS
from gptlab.commands.train import main
from gptlab.config.build import build
from gptlab.config.check import check
from gptlab.config.compose import ConfigError, compose_config
from gptlab.config.plain import flat
from gptlab.run import Run
from tests.conftest import ROOT, write_text
from tests.support.template_folder import CHATML, write_model

ROOTS = {"hydra", "experiment", "debug", "judge", "recipe"}
CHOICES = [
    (group.name, choice.stem)
    for group in sorted((ROOT / "conf").iterdir())
    if group.is_dir() and group.name not in ROOTS
    for choice in sorted(group.glob("*.yaml"))
]
EXPERIMENTS = sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml"))
DEBUGS = sorted(path.stem for path in (ROOT / "conf" / "debug").glob("*.yaml"))
# an experiment of any size steps with these: its own parts and schedule, another width
NARROW = [
    "model.emb_dim=24",
    "model.n_heads=2",
    "model.n_kv_heads=null",
    "model.n_layers=1",
    "sampling.max_new_tokens=4",
]


NEEDS = {  # what a choice leaves to be said
    "data=text": ["data.path=any.txt"],
    "data=chat": ["data.path=any.jsonl"],
    "data=csv": ["data.path=any.csv", "head=classifier"],
    "data=jsonl": ["data.path=any.jsonl", "head=classifier"],
    "data=preferences": ["data.path=any.jsonl", "head=preference"],
    "data=labelled": ["data.path=any.tsv", "head=classifier"],
    "data=spam": ["head=classifier"],
    "data=testament": ["head=classifier"],
    "head=classifier": ["data=testament"],
    "head=preference": ["data=preferences", "data.path=any.jsonl"],
    "model=pretrained": ["weights=gpt2"],
    "optim=torch": ["optim.name=NAdam", "optim.lr=0.01"],
    "schedule=torch": ["schedule.name=StepLR", "schedule.step_size=9"],
    "prompt=pretrained": ["weights=gpt2"],
    "tokenizer=pretrained": ["weights=gpt2"],
    "tuning=lora": ["weights=gpt2"],
    "weights=hf": ["weights.path=a"],
    "weights=run": ["weights.run=a"],
}


@pytest.mark.parametrize(("group", "choice"), CHOICES, ids=lambda part: part)
def test_every_choice_composes(group: str, choice: str) -> None:
    cfg = compose_config("train", [f"{group}={choice}", *NEEDS.get(f"{group}={choice}", [])])
    assert "???" not in dict(flat(cfg)).values()
    assert "_target_" in cfg.get(group, {}) or group in ("callbacks", "logger", "sweep")


@pytest.mark.parametrize("root", VERBS)
def test_every_root_composes(root: str) -> None:
    alone = ("train", "data", "plan")
    needs = {
        "evaluate": ["run=a", "judge=openai", "judge.model=b"],
        "compare": ["run=[a, b]"],
        "export": ["run=a", "to=b"],
    }
    compose_config(root, needs.get(root, [] if root in alone else ["run=a"]))


@pytest.mark.parametrize("choice", ["greedy", "creative"])
def test_sampling_is_built_from_its_yaml(choice: str) -> None:
    sampling = build(compose_config("train", [f"sampling={choice}"]).sampling, "sampling")
    assert (sampling.temperature == 0) == (choice == "greedy")


LABELLED = {  # experiments on labelled texts, and what takes the place of large weights and of a package's data
    "finetune_spam": ["weights=scratch", "model=tiny", "data.pad_to=32"],
    "spam_small": [],
    "spam_smollm2": ["weights=scratch", "model=tiny", "tokenizer=bytes", "tuning=full"],
    "classify_testament": ["weights=scratch", "model=tiny", "tokenizer=bytes", "data=csv"],
}


def write_labelled(path: Path) -> Path:
    """Forty short texts of two classes, in the spam collection's form."""
    path.write_text("".join(f"{'ham' if i % 2 else 'spam'}\tthe king saw {i} rivers\n" for i in range(40)), "utf-8")
    return path


ASSISTANTS = {  # experiments on conversations, and what takes the place of large weights
    "finetune_assistant": ["weights=scratch", "~weights.size", "model=tiny", *NARROW],
    "assistant_chatter": ["data/reader=conversations", "data.reader.format=alpaca", *NARROW],
    "assistant_smollm2": ["weights.path={folder}", "sampling.max_new_tokens=4"],
}


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name not in ASSISTANTS])
def test_every_experiment_steps(name: str, tmp_path: Path) -> None:
    if name in LABELLED:
        text = write_labelled(tmp_path / "short.tsv")
        parts = [*LABELLED[name], "data.reader.columns=[label,text]"]
    else:
        text, parts = write_text(tmp_path / "short.txt", 1200), []
    overrides = [f"experiment={name}", *parts, f"data.path={text}", f"output_dir={tmp_path / 'run'}", *NARROW]
    short = ["trainer.max_steps=2", "trainer.val_check_interval=2", "trainer.accumulate_grad_batches=2"]
    assert main([*overrides, *short, "model.context_length=32", "data.batch_size=2"]) is not None
    summary = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    assert summary["status"] == "finished"
    assert summary["steps"] == 2


@pytest.mark.parametrize("name", ASSISTANTS)
def test_every_assistant_steps(name: str, tmp_path: Path) -> None:
    tasks = [{"instruction": f"Say {i}.", "input": "", "output": f"{i}"} for i in range(60)]
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps(tasks), encoding="utf-8")
    parts = [part.format(folder=tmp_path / "model") for part in ASSISTANTS[name]]
    write_model(tmp_path / "model", CHATML)
    short = ["trainer.max_steps=2", "trainer.val_check_interval=2", "model.context_length=64", "data.batch_size=2"]
    main([f"experiment={name}", *parts, f"data.path={path}", f"output_dir={tmp_path / 'run'}", *short])
    summary = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    assert summary["steps"] == 2
    assert 0 <= summary["test"]["test/accuracy"] <= 1


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes_as_it_stands(name: str) -> None:
    own = {"pretrain_gpt2": ["data.path=my.txt"], "classify_testament": ["weights.run=mine"]}  # they begin with yours
    own["assistant_smollm2"] = own["spam_smollm2"] = ["weights.path=theirs"]
    compose_config("train", [f"experiment={name}", *own.get(name, [])])


TRAINED = ("tokenizer", "model", "optim", "schedule", "logger", "sampling")
ELSEWHERE = ("pretrained", "wandb", "mlflow")  # tested where the weights or the packages are
OF_GROUP = {
    name: [choice for group, choice in CHOICES if group == name and choice not in ELSEWHERE] for name in TRAINED
}
# run i has the i-th choice of each group, so that a handful of runs has them all
TOGETHER = [
    [f"{group}={choices[i % len(choices)]}" for group, choices in OF_GROUP.items()]
    for i in range(max(map(len, OF_GROUP.values())))
]


@pytest.mark.parametrize("parts", TOGETHER, ids=" ".join)
def test_every_part_trains_and_writes(parts: list[str], toy_text: Path, tmp_path: Path) -> None:
    """Two steps with it, and a text from the checkpoint."""
    needs = [word for part in parts for word in NEEDS.get(part, [])]
    more = [*parts, *needs, "model.context_length=32", f"output_dir={tmp_path / 'run'}"]
    main(["debug=smoke", "data=text", f"data.path={toy_text}", *NARROW, *more])
    run = Run.open(tmp_path / "run")
    written = run.generate("And the king", temperature=0, max_new_tokens=6)
    assert run.generate("And the king", temperature=0, max_new_tokens=6, cache=False) == written


def test_debug_smoke_takes_two_steps_of_the_default_run(toy_text: Path, tmp_path: Path) -> None:
    main(["debug=smoke", "data=text", f"data.path={toy_text}", f"output_dir={tmp_path / 'run'}", *NARROW])
    assert json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))["steps"] == 2


def test_debug_overfit_learns_a_batch_by_heart(toy_text: Path, tmp_path: Path) -> None:
    overrides = [
        *NARROW,
        "model.context_length=32",
        "tokenizer.vocab_size=300",
        "callbacks=default",
        "model.n_layers=2",
    ]
    main(
        [
            "debug=overfit",
            "data=text",
            f"data.path={toy_text}",
            f"output_dir={tmp_path / 'run'}",
            *overrides,
            "logger=csv",
        ]
    )
    lines = (tmp_path / "run" / "csv" / "metrics.csv").read_text(encoding="utf-8").splitlines()
    column = lines[0].split(",").index("train/loss")
    losses = [float(line.split(",")[column]) for line in lines[1:] if line.split(",")[column]]
    assert losses[-1] < 0.25 < 4 < losses[0]


def test_debug_profile_writes_a_trace(toy_text: Path, tmp_path: Path) -> None:
    main(["debug=profile", "data=text", f"data.path={toy_text}", f"output_dir={tmp_path / 'run'}", *NARROW])
    assert json.loads((tmp_path / "run" / "profile.json").read_text(encoding="utf-8"))["traceEvents"]


def test_debugs_are_all_tried_above() -> None:
    assert DEBUGS == ["overfit", "profile", "smoke"]


def test_a_callback_can_be_left_out_by_name() -> None:
    assert "early_stopping" not in compose_config("train", ["~callbacks.early_stopping"]).callbacks


def test_what_composes_for_train_composes_for_data() -> None:
    with pytest.raises(ConfigError, match=r"model\.n_layer is not a key \(did you mean model\.n_layers\?\)"):
        compose_config("data", ["model.n_layer=3"])


def test_a_head_and_data_that_do_not_fit_are_refused() -> None:
    for pair, missing in ((["head=classifier", "data=kjv"], "labels, lengths"), (["data=testament"], "targets")):
        with pytest.raises(ConfigError, match=f"needs {missing}, which .* does not give"):
            compose_config("train", pair)
    assert not check(compose_config("train", ["head=classifier", "data=testament"]))
