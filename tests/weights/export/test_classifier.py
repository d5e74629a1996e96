"""An exported classifier has the same logits in transformers, padded and row by row.   C classes"""

import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gptlab.batch import Batch
from gptlab.commands import export as command
from gptlab.commands.train import main
from gptlab.heads.classifier import ClassifierHead
from gptlab.heads.protocol import HeadContext
from gptlab.model.gpt import GPT
from gptlab.run import Run
from gptlab.tokenizer.char import CharTokenizer
from gptlab.weights.export.model import export
from gptlab.workflows.classify import classify
from gptlab.workflows.precision import set_precision
from tests.conftest import TINY
from tests.support.tiny_models import FAMILIES, LLAMA, tiny_gpt

KINDS: dict[str, tuple[dict[str, Any], str]] = {
    "gpt2": ({}, "GPT2"),
    "gpt2 without biases": ({"bias": False, "qkv_bias": False}, "GPT2"),
    "llama": (LLAMA, "Llama"),
    "mistral": (LLAMA | {"sliding_window": 5}, "Mistral"),
    "qwen2": (LLAMA | {"qkv_bias": True}, "Qwen2"),
    "qwen3": (FAMILIES["qwen"], "Qwen3"),
}
LABELS = ["spam", "ham", "0"]  # in no other order
TOKENIZER = CharTokenizer(characters="".join(map(chr, range(64, 113))), unknown=False, end_of_text=True)
PAD = 49
ROWS = [[5, 7, 1], [0], [3] * 32, [PAD, 8, 2], [PAD], [9, 0, 0, 0]]  # some tokenizers begin a text with the end of one


def classifier(*, pooling: str = "last", head_bias: bool = False, **changes: Any) -> tuple[GPT, ClassifierHead]:
    model = tiny_gpt(**changes)
    given = HeadContext(vocab_size=model.vocab_size, token_bytes=None, labels=dict.fromkeys(LABELS, 4))
    settings: dict[str, Any] = {
        "pooling": pooling,
        "class_weights": "balanced",
        "bias": head_bias,
        "drop_rate": 0.1,
        "lm_loss_weight": 0.0,
    }
    head = ClassifierHead(model, given, **settings).eval()
    nn.init.normal_(head.out.weight)
    return model, head


def export_to(folder: Path, tokenizer: CharTokenizer = TOKENIZER, **changes: Any) -> tuple[GPT, ClassifierHead]:
    model, head = classifier(**changes)
    card = {"name": "tiny", "parameters": 1, "prompt": "a", "command": None, "config": None, "summary": {}}
    export(model, head, tokenizer, folder, shard_bytes=10**9, card=card, labels=LABELS)
    return model, head


@torch.no_grad()
def our_logits(model: GPT, head: ClassifierHead, rows: Sequence[list[int]]) -> Tensor:
    """(B, C)"""
    lengths = torch.tensor([len(row) for row in rows])
    ids = padded(rows)
    return head(model(ids), Batch(ids=ids, lengths=lengths))


def padded(rows: Sequence[list[int]]) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=PAD)


def opened(transformers: ModuleType, folder: Path) -> Any:
    """Open a folder with the library, and check that its weights are exactly the expected ones."""
    auto = transformers.AutoModelForSequenceClassification
    model, loading_info = auto.from_pretrained(folder, output_loading_info=True, dtype="auto")
    assert not any(loading_info.values()), loading_info
    return model.eval()


@pytest.mark.parametrize(("changes", "name"), KINDS.values(), ids=KINDS)
@torch.no_grad()
def test_the_same_logits(transformers: ModuleType, tmp_path: Path, changes: dict[str, Any], name: str) -> None:
    wanted = our_logits(*export_to(tmp_path, **changes), ROWS)
    theirs = opened(transformers, tmp_path)
    assert type(theirs).__name__ == f"{name}ForSequenceClassification"
    mask = padded([[1] * len(row) for row in ROWS]) == 1
    alone = torch.cat([theirs(torch.tensor([row])).logits for row in ROWS])
    for logits in (theirs(padded(ROWS), attention_mask=mask).logits, theirs(padded(ROWS)).logits, alone):
        torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-4)


def test_the_configuration(transformers: ModuleType, tmp_path: Path) -> None:
    export_to(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert written["architectures"] == ["GPT2ForSequenceClassification"]
    config = opened(transformers, tmp_path).config
    assert config.num_labels == written["num_labels"] == 3
    assert config.id2label == {0: "spam", 1: "ham", 2: "0"}
    assert config.label2id == {"spam": 0, "ham": 1, "0": 2}
    assert config.problem_type == "single_label_classification"
    assert config.pad_token_id == config.eos_token_id == PAD


def test_without_an_end_of_text_rows_cannot_be_padded(
    transformers: ModuleType, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every id may occur in a text, so the library refuses several rows instead of padding wrongly."""
    tokenizer = CharTokenizer(characters="".join(map(chr, range(64, 114))), unknown=False, end_of_text=False)
    wanted = our_logits(*export_to(tmp_path, tokenizer), ROWS)
    assert "no <|endoftext|> to pad with, so transformers can classify only one text at a time" in caplog.text
    assert "padding=True" not in (tmp_path / "README.md").read_text(encoding="utf-8")
    theirs = opened(transformers, tmp_path)
    with torch.no_grad():
        alone = torch.cat([theirs(torch.tensor([row])).logits for row in ROWS])
    torch.testing.assert_close(alone, wanted, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="no padding token is defined"):
        theirs(padded(ROWS))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"head_bias": True}, r"head.bias is true, .* have no bias: train with head.bias=false"),
        ({"pooling": "book"}, r"head.pooling is book, .* by the last token alone: train with head.pooling=last"),
        ({"pooling": "mean"}, r"head.pooling is mean, "),
        ({"norm": "rms"}, r"the transformers library has no such model: a GPT-2 has model.norm=layer, not rms"),
    ],
    ids=str,
)
def test_a_classifier_that_the_library_lacks_is_refused(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        export_to(tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


TEXTS = ["win a prize", "y", "see you", "call now to win " * 5]  # the last is cut to the model's 32 tokens


def rows_of(folder: Path) -> Path:
    rows = (f"{'ham' if i % 2 else 'spam'},{'see you' if i % 2 else 'win a prize'} {i}\n" for i in range(40))
    (folder / "rows.csv").write_text("label,text\n" + "".join(rows), encoding="utf-8")
    return folder / "rows.csv"


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the overrides that train a classifier on a toy table."""
    own = ["head=classifier", "data=csv", f"data.path={rows_of(tmp_path_factory.mktemp('rows'))}", "logger=none"]
    short = ["trainer.max_steps=3", "trainer.val_check_interval=3", "schedule.warmup_steps=0"]
    return [*TINY[1:], "tokenizer=bytes", *own, *short]


@pytest.fixture(scope="module")
def trained(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train the classifier briefly."""
    folder = tmp_path_factory.mktemp("runs") / "toy"
    main([*words, f"output_dir={folder}"])
    return folder


def assert_same_verdicts(transformers: ModuleType, folder: Path, run: Run) -> None:
    """Return the probabilities of texts, in one batch and alone."""
    tokenizer, theirs = transformers.AutoTokenizer.from_pretrained(folder), opened(transformers, folder)
    context = set_precision(run, "32-true").context
    ours = list(classify(run, TEXTS, batch_tokens=64, forward_context=context))
    for texts in (TEXTS, *([text] for text in TEXTS)):
        batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        assert set(batch) == {"input_ids", "attention_mask"}
        with torch.no_grad():
            probabilities = theirs(**batch).logits.softmax(-1)
        for text, row in zip(texts, probabilities, strict=True):
            wanted = next(verdict for verdict in ours if verdict["text"] == text)["probabilities"]
            found = {theirs.config.id2label[i]: float(value) for i, value in enumerate(row)}
            assert found == pytest.approx(wanted, abs=1e-4)


def test_a_run_by_the_command(
    trained: Path, transformers: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command.main([f"run={trained}", f"to={tmp_path / 'toy'}"])
    output = capsys.readouterr().out
    assert f'AutoModelForSequenceClassification.from_pretrained("{tmp_path / "toy"}")' in output
    assert "gptlab generate" not in output
    assert_same_verdicts(transformers, tmp_path / "toy", Run.open(trained))
    card = (tmp_path / "toy" / "README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: text-classification" in card
    assert "A classifier of texts (ham, spam) of " in card
    summary = json.loads((trained / "summary.json").read_text(encoding="utf-8"))
    final, best, test = summary["val"], summary["best"], summary["test"]
    row = f"{final['val/accuracy']:.4g} | {best['val/accuracy']:.4g} | {test['test/accuracy']:.4g}"
    assert "| held-out text | final | best | test, best |\n| --- | --- | --- | --- |\n| loss |" in card
    assert f"| accuracy | {row} |" in card


def test_the_cards_example_runs(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command.main([f"run={trained}", "to=toy"])
    code = (tmp_path / "toy" / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    capsys.readouterr()
    exec(code, {})
    assert capsys.readouterr().out.startswith("{'ham': 0.")


def test_an_adapter_is_merged(words: list[str], trained: Path, transformers: ModuleType, tmp_path: Path) -> None:
    kept = [word for word in words if not word.startswith(("model.", "tokenizer"))]
    more = ["weights=run", f"weights.run={trained}", "model=pretrained", "tokenizer=pretrained", "tuning=lora"]
    main([*kept, *more, "tuning.rank=2", f"output_dir={tmp_path / 'run'}"])
    command.main([f"run={tmp_path / 'run'}", f"to={tmp_path / 'toy'}"])
    assert_same_verdicts(transformers, tmp_path / "toy", Run.open(tmp_path / "run"))


def test_a_head_with_a_bias_is_not_exported(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*words, "head.bias=true", f"output_dir={tmp_path / 'run'}"])
    path = tmp_path / "run" / "checkpoints" / "best.ckpt"
    with pytest.raises(SystemExit):
        command.main([f"run={path}", f"to={tmp_path / 'toy'}"])
    assert "head.bias is true" in capsys.readouterr().err
