"""An exported classifier has the same logits in transformers, padded and row by row.   C classes"""

import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tokenizers
import torch
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn

from gptlab.batch import Batch
from gptlab.commands import export as command
from gptlab.commands.cli import main as gptlab
from gptlab.commands.train import main
from gptlab.config.compose import compose_config
from gptlab.errors import UserError
from gptlab.heads.classifier import ClassifierHead
from gptlab.heads.protocol import HeadContext
from gptlab.model.gpt import GPT
from gptlab.run import Run
from gptlab.tokenizer.char import CharTokenizer
from gptlab.tokenizer.huggingface import write_tokenizer
from gptlab.weights.export.model import export
from gptlab.workflows.classify import classify
from gptlab.workflows.precision import set_precision
from tests.conftest import TINY, write_text
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


def reopened(transformers: ModuleType, folder: Path, run: Run) -> None:
    """Compare an opened folder with the library's own classifier, on padded rows."""
    theirs = opened(transformers, folder)
    with torch.no_grad():
        wanted = theirs(padded(ROWS)).logits
    torch.testing.assert_close(our_logits(run.model, run.head, ROWS), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("changes", "name"), KINDS.values(), ids=KINDS)
def test_what_was_exported_opens(transformers: ModuleType, tmp_path: Path, changes: dict[str, Any], name: str) -> None:
    _, head = export_to(tmp_path, **changes)
    run = Run.open(tmp_path)
    assert list(run.labels) == LABELS
    assert isinstance(run.head, ClassifierHead)
    assert run.head.pooling == "last"
    assert torch.equal(run.head.out.weight, head.out.weight)
    reopened(transformers, tmp_path, run)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "mistral", "qwen2", "qwen3"])
def test_a_published_classifier_opens(transformers: ModuleType, make_theirs: Any, tmp_path: Path, kind: str) -> None:
    """The library writes it: tied or not by its config, with classes that may have no names."""
    config = make_theirs(kind).config
    config.num_labels, config.pad_token_id = 3, PAD
    torch.manual_seed(0)
    theirs = transformers.AutoModelForSequenceClassification.from_config(config)
    theirs.save_pretrained(tmp_path)
    write_tokenizer(TOKENIZER, tmp_path, context_length=32, pads=True)
    run = Run.open(tmp_path)
    assert list(run.labels) == ["LABEL_0", "LABEL_1", "LABEL_2"]
    reopened(transformers, tmp_path, run)


def edit(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config = {key: value for key, value in (config | changes).items() if value != "left out"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def test_classes_without_names_have_the_librarys(tmp_path: Path) -> None:
    export_to(tmp_path)
    edit(tmp_path, id2label="left out")
    assert list(Run.open(tmp_path).labels) == ["LABEL_0", "LABEL_1", "LABEL_2"]


MISFITS: dict[str, tuple[dict[str, Any], str]] = {
    "regression": ({"problem_type": "regression"}, 'problem_type is "regression"; gptlab takes "single_label_cl'),
    "several classes": ({"problem_type": "multi_label_classification"}, "problem_type is"),
    "a reward": ({"id2label": {"0": "reward"}}, "num_labels is 1; gptlab takes 2 or more"),
    "other numbers": ({"id2label": {"1": "a", "2": "b"}}, "id2label is"),
    "one name twice": ({"id2label": {"0": "a", "1": "a", "2": "b"}}, "id2label is .* gptlab takes different names"),
    "a class too few": ({"id2label": {"0": "a", "1": "b"}}, r"score.weight in model.safetensors is \(3, 24\), wanted"),
    "many": ({"id2label": "left out", "num_labels": 10**9}, "num_labels is 1000000000; gptlab takes"),
    "each token": ({"architectures": ["GPT2ForTokenClassification"]}, "architectures is .*GPT2ForTokenClassif"),
    "ordinary padding": ({"pad_token_id": 1}, "pad_token_id is 1, the ordinary token 'A'"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_what_is_not_exact_is_refused_by_its_field(tmp_path: Path, name: str) -> None:
    changes, sentence = MISFITS[name]
    export_to(tmp_path)
    edit(tmp_path, **changes)
    with pytest.raises(UserError, match=sentence):
        Run.open(tmp_path)


def test_a_tokenizer_that_ends_a_text_itself_is_refused(transformers: ModuleType, tmp_path: Path) -> None:
    """The library would classify by the token that it adds."""
    export_to(tmp_path)
    edit(tmp_path, pad_token_id=None)
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    library.post_processor = TemplateProcessing(single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", PAD)])
    library.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UserError, match=r"its tokenizer puts '<\|endoftext\|>' after a text, and the model classifies"):
        Run.open(tmp_path)
    edit(tmp_path, pad_token_id=PAD)  # then the library passes over it
    reopened(transformers, tmp_path, Run.open(tmp_path))


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


def test_an_exported_run_answers_as_before(
    trained: Path, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "toy"
    command.main([f"run={trained}", f"to={folder}"])
    data = words[words.index("data=csv") + 1]
    answers = []
    for run in (trained, folder):
        capsys.readouterr()
        gptlab(["classify", f"run={run}", "text=win a prize", "output=json"])
        answers.append(capsys.readouterr().out)
        gptlab(["evaluate", f"run={run}", "data=csv", data, "split=all", "output=json"])
        answers.append(json.dumps(json.loads(capsys.readouterr().out)["confusion"]))
    assert answers[:2] == answers[2:]
    gptlab(["export", f"run={folder}", f"to={tmp_path / 'again'}"])
    files = [(place / "model.safetensors").read_bytes() for place in (folder, tmp_path / "again")]
    assert files[0] == files[1]
    for verb in (["generate", "prompt=a"], ["chat"]):
        with pytest.raises(SystemExit):
            gptlab([verb[0], f"run={folder}", *verb[1:]])
        assert "it is a classifier, of ham, spam, and generates no text" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        gptlab(["evaluate", f"run={folder}"])
    assert "data=csv data.path=my.csv" in capsys.readouterr().err


def start_from(source: list[str], words: list[str], *changes: str) -> Run:
    kept = [word for word in words if not word.startswith(("model.", "tokenizer"))]
    cfg = compose_config("train", [*kept, *source, "model=pretrained", "tokenizer=pretrained", *changes])
    return Run.compose(cfg)


@pytest.mark.parametrize("group", ["hf", "run"])
def test_training_starts_from_its_scores(
    trained: Path, words: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture, group: str
) -> None:
    """Where the classes are the same, in any order; otherwise the scores are new."""
    command.main([f"run={trained}", f"to={tmp_path / 'toy'}"])
    source = {"hf": f"weights.path={tmp_path / 'toy'}", "run": f"weights.run={trained}"}
    first = Run.open(trained).head.out.weight  # ham, spam
    given = [f"weights={group}", source[group]]
    with caplog.at_level("INFO"):
        assert torch.equal(start_from(given, words).head.out.weight, first)
        assert torch.equal(start_from(given, words, "data.classes=[spam,ham]").head.out.weight, first[[1, 0]])
        assert "newly initialised" not in caplog.text
        other = rows_of(tmp_path)
        other.write_text(other.read_text(encoding="utf-8").replace("spam,", "junk,"), encoding="utf-8")
        assert not torch.equal(start_from(given, words, f"data.path={other}").head.out.weight, first)
        assert "not in the pretrained weights, newly initialised: head.out.weight" in caplog.text
    language = ["head=lm", "data=text", f"data.path={write_text(tmp_path / 'toy.txt', 2000)}"]
    with pytest.raises(UserError, match="are a classifier's and have no output matrix over the vocabulary: choose he"):
        start_from(given, words, *language)
    assert start_from(given, words, *language, "head.tied=true").head.out.weight is None


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
