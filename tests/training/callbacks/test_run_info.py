"""TensorBoard's pages and the log lines of a run."""

import json
import shlex
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2

from gptlab.batch import IGNORE_INDEX
from gptlab.commands.train import main
from gptlab.training.callbacks.run_info import RunInfo
from gptlab.training.callbacks.throughput import Throughput
from gptlab.training.loggers import tensorboard
from tests.conftest import TINY, TrainedRun
from tests.training.callbacks.test_throughput import B, context, rows, watched

TAGS = {  # a contract: gptlab/README.md lists them
    "train": ["bits_per_byte", "loss", "perplexity"],
    "val": ["bits_per_byte", "last_word", "loss", "passage", "perplexity", "word_order"],
    "weights": ["emb_lr", "emb_update_ratio", "gradient_norm", "lr", "update_ratio", "vector_lr"],
    "work": ["epoch", "memory_gb", "mfu", "tokens", "tokens_per_second"],
}
ROWS = ("ids", "inputs", "targets")


@pytest.fixture(scope="module")
def events(tiny_run: TrainedRun) -> EventAccumulator:
    return EventAccumulator(str(tiny_run.folder)).Reload()


def page(events: EventAccumulator, tag: str) -> str:
    """Return a text of TensorBoard's page, whose lines are all indented."""
    (event,) = events.Tensors(f"{tag}/text_summary")
    assert event.step == 0
    lines = event.tensor_proto.string_val[0].decode().split("\n")
    assert all(line.startswith("    ") or not line for line in lines)
    return "\n".join(line[4:] for line in lines)


def test_curves_have_the_documented_names(events: EventAccumulator) -> None:
    documented = {f"{group}/{name}" for group, names in TAGS.items() for name in names}
    best = {f"val_best/{name}" for name in TAGS["val"]}
    assert set(events.Tags()["scalars"]) == documented | best


def test_every_chart_of_the_layout_has_its_curves(events: EventAccumulator) -> None:
    (event,) = events.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    charts = {chart.title: list(chart.multiline.tag) for category in layout.category for chart in category.chart}
    assert charts["loss"] == ["train/loss", "val/loss"]
    assert {tag for tags in charts.values() for tag in tags} <= set(events.Tags()["scalars"])
    assert len(charts) == 10
    assert charts["learning rate"] == ["weights/lr", "weights/emb_lr", "weights/vector_lr"]


def test_the_run_is_described(events: EventAccumulator, tiny_run: TrainedRun) -> None:
    command, facts = page(events, "run/info").split("\n\n")
    words = shlex.split(command.replace("\\\n", ""))
    assert words[-1] == "callbacks.samples.prompt=And the"  # a shell reads it as one word again
    assert "trainer.max_steps=30" in words
    assert f"parameters  {tiny_run.summary['parameters']:,}" in facts
    assert f"torch {torch.__version__}" in facts
    config = yaml.safe_load(page(events, "run/config"))
    assert config["trainer"]["max_steps"] == 30
    assert config["output_dir"] == str(tiny_run.folder)
    assert "${" not in page(events, "run/config")


def test_the_first_batch_is_shown_with_its_targets(events: EventAccumulator) -> None:
    first, second = page(events, "run/first_batch").split("\n\n\n")
    for number, text in enumerate((first, second)):
        head, *_ = lines = text.split("\n")
        assert head == f"row {number + 1} of 4, 32 tokens, 32 targets are learned"
        assert max(map(len, lines)) <= 100
        ids, inputs, targets = ([w for line in lines if line.startswith(n) for w in line.split()[1:]] for n in ROWS)
        assert len(ids) == len(inputs) == len(targets) == 32
        assert targets[:-1] == inputs[1:]
        assert {"\u2423the"} & set(inputs)


def test_the_page_shows_where_training_starts_in_a_row(tmp_path: Path) -> None:
    """The page begins a little before the first trained token."""
    batch = rows()
    for row in batch[:B]:
        row["targets"][:7] = IGNORE_INDEX
    logger = tensorboard(context(tmp_path), folder=None, by_tokens=False)
    watched(Throughput(log_every_n_steps=1), RunInfo(context(tmp_path), n_rows=1), logger=logger, data=batch)
    text = page(EventAccumulator(str(tmp_path)).Reload(), "run/first_batch")
    head, _, ids, inputs, targets = text.split("\n")
    assert head == "row 1 of 3, 12 tokens, 5 targets are learned; from token 4"
    assert ids.split()[1:] == inputs.split()[1:] == [str(i) for i in batch[0]["ids"][3:].tolist()]
    assert targets.split()[1:] == ["\u00b7"] * 4 + [str(i) for i in batch[0]["targets"][7:].tolist()]


def test_a_resumed_run_is_not_described_again(tmp_path: Path) -> None:
    logger = tensorboard(context(tmp_path, start_step=2), folder=None, by_tokens=False)
    watched(Throughput(log_every_n_steps=1), RunInfo(context(tmp_path, start_step=2), n_rows=1), logger=logger)
    tags = EventAccumulator(str(tmp_path)).Reload().Tags()
    assert not {"run/info/text_summary", "run/config/text_summary", "custom_scalars__config__"} & set(tags["tensors"])


def test_tensorboard_and_a_table_side_by_side(toy_text: Path, tmp_path: Path) -> None:
    more = ["logger=[tensorboard,csv]", "trainer.max_steps=2", f"output_dir={tmp_path / 'run'}"]
    more.append("final_evaluation=false")
    main([*TINY, "data=text", f"data.path={toy_text}", *more])
    assert list((tmp_path / "run").glob("events.out.tfevents.*"))
    header, *steps = (tmp_path / "run" / "csv" / "metrics.csv").read_text(encoding="utf-8").splitlines()
    assert {"step", "train/loss", "val/loss"} <= set(header.split(","))
    assert [row.split(",")[0] for row in steps] == ["1", "2"]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    assert (summary["train"], summary["estimate"]["final_seconds"]) == ({}, 0.0)
    assert {"val/loss"} <= summary["val"].keys()
