"""Preference tuning: the paper's loss, the reference, and a run that learns."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gptlab.batch import IGNORE_INDEX, Batch
from gptlab.commands.cli import main as gptlab
from gptlab.commands.train import main
from gptlab.config.compose import compose_config
from gptlab.data.chat.packing import TokenRow
from gptlab.data.chat.prepared_preferences import PairRows
from gptlab.evaluation.pairs import summarise
from gptlab.heads.preference import PreferenceHead, answer_log_probs
from gptlab.heads.protocol import HeadContext, ReferenceHead, TokenHead
from gptlab.model.gpt import GPT
from gptlab.model.lora import adapt, adapters
from gptlab.run import Run
from tests.conftest import TINY, TrainedRun
from tests.support.tiny_models import tiny_gpt

V = 50


def model_and_head() -> tuple[GPT, PreferenceHead]:
    torch.manual_seed(0)
    model = tiny_gpt()
    head = PreferenceHead(model, HeadContext(vocab_size=V, token_bytes=None), beta=0.1, tied=True, loss_chunk_rows=None)
    return model, head


def batch(n_pairs: int = 3) -> Batch:
    ids = torch.randint(V, (2 * n_pairs, 9), generator=torch.Generator().manual_seed(1))
    targets = ids.roll(-1, dims=1)
    targets[:, :4] = IGNORE_INDEX  # the question
    targets[1, 7:] = IGNORE_INDEX  # answers of unequal lengths
    return Batch(ids=ids, targets=targets)


def shaken(model: nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2))


def test_the_loss_is_the_papers() -> None:
    """Write equation 7 out row by row, with whole logits."""
    model, head = model_and_head()
    head.capture_reference(torch.float32)
    first = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    shaken(model)
    data = batch()

    def log_prob(row: int) -> torch.Tensor:
        logits = F.linear(model(data["ids"][row][None]), model.tok_emb.weight)[0]
        wanted = data["targets"][row]
        return sum(logits[t].log_softmax(-1)[wanted[t]] for t in range(9) if wanted[t] != IGNORE_INDEX)  # type: ignore[return-value]

    now = [log_prob(row) for row in range(6)]
    loss = head.loss(model(data["ids"]), data)
    model.load_state_dict(first)
    before = [log_prob(row) for row in range(6)]
    rewards = [0.1 * (a - b) for a, b in zip(now, before, strict=True)]
    by_hand = sum(-F.logsigmoid(rewards[i] - rewards[i + 3]) for i in range(3))
    torch.testing.assert_close(loss.total, by_hand)
    torch.testing.assert_close(loss.logits, torch.stack([torch.stack(rewards[:3]), torch.stack(rewards[3:])], 1))
    assert loss.count == 3


def test_rewards_are_zero_before_training() -> None:
    model, head = model_and_head()
    head.capture_reference(torch.float32)
    loss = head.loss(model(batch()["ids"]), batch())
    torch.testing.assert_close(loss.total, torch.tensor(3 * np.log(2), dtype=torch.float32))
    torch.testing.assert_close(loss.logits, torch.zeros(3, 2))


@pytest.mark.parametrize("tied", [True, False])
def test_the_reference_keeps_the_stored_format(tied: bool) -> None:
    losses = []
    for stored in (torch.bfloat16, torch.float32):
        model = tiny_gpt(drop_rate=0.0)
        head = PreferenceHead(model, HeadContext(50, None), beta=0.1, tied=tied, loss_chunk_rows=None)
        for parameter in (*model.parameters(), *head.parameters()):
            parameter.data = parameter.bfloat16().float()  # as a base in bfloat16 fills it
        head.capture_reference(stored)
        assert head.reference is not None
        reference, matrix = head.reference
        assert {p.dtype for p in (*reference.parameters(), matrix) if p.ndim == 2} == {stored}
        assert model.tok_emb.weight.dtype == torch.float32
        shaken(model)
        losses.append(head.loss(model(batch()["ids"]), batch()).total)
    assert torch.equal(*losses)


def test_the_reference_is_in_no_checkpoint_and_is_not_trained() -> None:
    model, head = model_and_head()
    head.capture_reference(torch.float32)
    assert not list(head.parameters())
    assert not head.state_dict()
    shaken(model)
    head.loss(model(batch()["ids"]), batch()).total.backward()
    assert head.reference is not None
    assert all(parameter.grad is None for parameter in head.reference[0].parameters())
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter is not model.pos_emb)


def test_with_adapters_the_reference_is_the_model_without_them() -> None:
    model, head = model_and_head()
    with torch.no_grad():
        wanted = answer_log_probs(model(batch()["ids"]), model.tok_emb.weight, batch()["targets"])
    model.requires_grad_(False)
    adapt(model, ["attention.qkv"], rank=2, alpha=4.0, drop_rate=0.0)
    head.capture_reference(torch.float32)
    assert head.reference is None  # no second model in memory
    shaken(model)
    now = answer_log_probs(model(batch()["ids"]), model.tok_emb.weight, batch()["targets"])
    assert not torch.allclose(now, wanted)
    loss = head.loss(model(batch()["ids"]), batch())
    chosen, rejected = (0.1 * (now - wanted)).detach().chunk(2)
    torch.testing.assert_close(loss.logits, torch.stack((chosen, rejected), 1))
    assert all(layer.enabled for layer in adapters(model).values())


def test_it_is_a_head_of_both_kinds() -> None:
    _, head = model_and_head()
    assert isinstance(head, TokenHead)
    assert isinstance(head, ReferenceHead)


def test_a_batch_is_the_chosen_rows_over_the_rejected_ones() -> None:
    def row(*ids: int) -> TokenRow:
        return TokenRow(np.array(ids), np.array(ids) + 1)

    rows = PairRows([row(1, 2), row(3)], [row(4), row(5, 6, 7)], group_by_length=True)
    found = rows[np.array([1, 0])]
    assert found["ids"].tolist() == [[3, 0, 0], [1, 2, 0], [5, 6, 7], [4, 0, 0]]
    assert found["targets"][0].tolist() == [4, IGNORE_INDEX, IGNORE_INDEX]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Write pairs whose chosen answers end with a blessing."""
    people, path = ("king", "prophet", "servant", "river", "mountain"), tmp_path / "pairs.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for i in range(60):
            who = people[i % 5]
            entry = {"prompt": f"And the {who} {i}", "chosen": f"blessed the {who}.", "rejected": f"feared the {who}."}
            file.write(json.dumps(entry) + "\n")
    return path


@pytest.mark.parametrize("tuning", [pytest.param("full", marks=pytest.mark.slow), "lora"])
def test_a_run_learns_to_prefer_the_chosen_answers(
    tuning: str, tiny_run: TrainedRun, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A resumed run has the same reference, and equals an uninterrupted one bit for bit."""
    words = [
        *(word for word in TINY if not word.startswith(("tokenizer", "model"))),
        "head=preference",
        "data=preferences",
        f"data.path={pairs}",
        "prompt=plain",
        "weights=run",
        f"weights.run={tiny_run.folder}",
        "model=pretrained",
        "tokenizer=pretrained",
        f"tuning={tuning}",
        "optim=adamw",
        "optim.lr=3e-3",
        "optim.weight_decay=0",
        "schedule=constant",
        "trainer.val_check_interval=10",
        "callbacks.last_checkpoint.every_n_train_steps=10",
    ]
    main([*words, "trainer.max_steps=20", f"output_dir={tmp_path / 'straight'}"])
    summary = json.loads((tmp_path / "straight" / "summary.json").read_text(encoding="utf-8"))
    assert summary["val"]["val/accuracy"] == 1
    assert summary["val"]["val/margin"] > 0.1
    assert summary["val"]["val/loss"] < np.log(2)
    assert "test/accuracy" in summary["test"]
    main([*words, "trainer.max_steps=10", f"output_dir={tmp_path / 'resumed'}"])
    main([f"resume={tmp_path / 'resumed'}", "trainer.max_steps=20"])

    def weights(name: str) -> dict[str, Any]:
        path = tmp_path / name / "checkpoints" / "last.ckpt"
        return torch.load(path, weights_only=True)["state_dict"]

    straight, resumed = weights("straight"), weights("resumed")
    assert straight.keys() == resumed.keys()
    assert not any("reference" in name for name in straight)
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    written = Run.open(tmp_path / "straight").generate("And the king\n", temperature=0.0, max_new_tokens=6)
    assert written
    check_evaluation(tmp_path / "straight", capsys)


def check_evaluation(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`gptlab evaluate` finds the numbers of training's own validation and test."""
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    for split, stored in (("val", summary["best"]), ("test", summary["test"])):
        capsys.readouterr()
        gptlab(["evaluate", f"run={folder}", f"split={split}", "output=json"])
        report = json.loads(capsys.readouterr().out)
        metrics = report["metrics"]
        assert list(metrics) == ["loss", "accuracy", "margin", "chosen_reward", "rejected_reward"]
        found = {f"{split}/{name}": entry["value"] for name, entry in metrics.items()}
        assert found == pytest.approx({name: stored[name] for name in found}, rel=1e-5, abs=1e-6)
        rows = (folder / "evaluation" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        assert len(rows) == report["pairs"] == 6
        margins = [json.loads(row)["chosen_reward"] - json.loads(row)["rejected_reward"] for row in rows]
        assert np.mean(margins) == pytest.approx(metrics["margin"]["value"])
    gptlab(["evaluate", f"run={folder}", "split=all"])
    shown = capsys.readouterr().out
    assert "60 pairs" in shown
    assert "chosen reward" in shown


def test_a_run_from_random_weights_is_measured_against_them(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*TINY, "head=preference", "data=preferences", f"data.path={pairs}", "prompt=plain", "tokenizer=bytes"]
    words = [*(word for word in words if not word.startswith("tokenizer.")), "model.context_length=64"]
    main([*words, "trainer.max_steps=4", f"output_dir={tmp_path / 'run'}"])
    check_evaluation(tmp_path / "run", capsys)


def test_intervals_are_over_pairs() -> None:
    rewards = np.random.default_rng(0).normal([0.5, 0.0], 1.0, size=(400, 2))
    report = summarise(rewards, seed=0)
    margins = rewards[:, 0] - rewards[:, 1]
    half = 1.96 * margins.std() / 20
    assert report["margin"]["value"] == pytest.approx(margins.mean())
    assert report["margin"]["low"] == pytest.approx(margins.mean() - half, abs=0.02)
    assert report["margin"]["high"] == pytest.approx(margins.mean() + half, abs=0.02)
    assert report["loss"]["value"] == pytest.approx(np.log1p(np.exp(-margins)).mean())
    assert summarise(rewards[:5], seed=0)["loss"]["low"] is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "a", "chosen": "b"}', "no field 'rejected'"),
        ('{"prompt": "a", "chosen": "b", "rejected": 3}', "'rejected' is 3, wanted a text"),
        ('{"prompt": "a", "chosen": "b"', "not JSON"),
    ],
)
def test_a_mistake_in_the_pairs_is_reported_with_its_line(
    line: str, message: str, pairs: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pairs.write_text(pairs.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with pytest.raises(SystemExit):
        main(
            [
                "head=preference",
                "data=preferences",
                f"data.path={pairs}",
                "tokenizer=bytes",
                f"output_dir={tmp_path / 'run'}",
            ]
        )
    error = capsys.readouterr().err
    assert f"{pairs}, line 61: {message}" in error


def test_it_composes() -> None:
    compose_config("train", ["head=preference", "data=preferences", "data.path=a.jsonl"])
