"""`gptlab classify`: texts from the command line and from files, and error messages."""

import json
from pathlib import Path

import pytest

from gptlab.commands.cli import main as gptlab
from gptlab.commands.train import main as train
from tests.conftest import TINY, TrainedRun


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier that tells rivers from kings."""
    folder = tmp_path_factory.mktemp("classifier")
    rows = [{"text": f"the {who} {i} sleeps", "label": who} for i in range(60) for who in ("river", "king")]
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    words = [word for word in TINY if not word.startswith(("tokenizer", "sampling"))]
    more = ["tokenizer=bytes", "optim=adamw", "optim.lr=1e-2", "trainer.max_steps=40", f"output_dir={folder / 'run'}"]
    train([*words, "head=classifier", "data=jsonl", f"data.path={file}", "data.group_by_length=false", *more])
    return folder / "run"


def predictions(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict]:
    capsys.readouterr()
    gptlab(["classify", *words, "output=json"])
    return [json.loads(line) for line in capsys.readouterr().out.removesuffix("\n").split("\n")]


def test_a_typed_text_is_classified_unchanged(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (prediction,) = predictions(capsys, f"run={run}", "text=the king, [7] sleeps = {x}")
    assert prediction["text"] == "the king, [7] sleeps = {x}"
    assert prediction["predicted"] == "king"
    assert sum(prediction["probabilities"].values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("ending", [".txt", ".csv", ".jsonl"])
def test_the_texts_of_a_file_one_by_one_and_together(
    ending: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts, file = ["the king 3 sleeps", "the river 4 sleeps on and on", "a river"], tmp_path / f"texts{ending}"
    lines = {".txt": texts, ".csv": ["text", *texts], ".jsonl": [json.dumps({"text": text}) for text in texts]}
    file.write_text("\n".join(lines[ending]) + "\n", encoding="utf-8")
    together = predictions(capsys, f"run={run}", f"file={file}")
    alone = [predictions(capsys, f"run={run}", f"text={text}")[0] for text in texts]
    assert [prediction["text"] for prediction in together] == texts
    for a, b in zip(together, alone, strict=True):
        assert a["predicted"] == b["predicted"]
        assert a["probabilities"] == pytest.approx(b["probabilities"], abs=1e-5)


def test_each_line_of_a_file_has_its_line_of_output(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    lines = ["the king\u2028sleeps", "", "a\x0cking\x0b\x85\x1c\u2029", "  ", "the river\rsleeps", "a king", ""]
    (tmp_path / "a.txt").write_bytes("\ufeff".encode() + "\n".join(lines).encode() + b"\r\n\n")
    found = predictions(capsys, f"run={run}", f"file={tmp_path / 'a.txt'}")
    assert [each["text"] for each in found] == [*lines[:-1], "", ""]
    blank = [not line.strip() for line in (*lines[:-1], "", "")]
    assert [each["predicted"] is None for each in found] == blank == [each["probabilities"] is None for each in found]
    gptlab(["classify", f"run={run}", f"file={tmp_path / 'a.txt'}"])
    assert [line == "" for line in capsys.readouterr().out.removesuffix("\n").split("\n")] == blank
    assert "4 of 8 texts are blank, and get no class" in caplog.text
    (tmp_path / "a.csv").write_text('who;text\na;"the king\nsleeps"\nb;\n', encoding="utf-8")
    found = predictions(capsys, f"run={run}", f"file={tmp_path / 'a.csv'}")
    assert [(each["text"], each["predicted"] is None) for each in found] == [("the king\nsleeps", False), ("", True)]
    (tmp_path / "a.tsv").write_text('x\t"a king\ny\ta "river"\n', encoding="utf-8")
    found = predictions(capsys, f"run={run}", f"file={tmp_path / 'a.tsv'}", "columns=[who,text]")
    assert [each["text"] for each in found] == ['"a king', 'a "river"']


def test_texts_longer_than_the_model_reads_are_counted_and_the_rest_is_read(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The context is 32 bytes."""
    long, file = "the king sleeps and sleeps until the river comes", tmp_path / "texts.txt"
    (cut,) = predictions(capsys, f"run={run}", f"text={long}")
    assert caplog.messages == ["the text has 48 tokens, the first 32 are read"]
    (read,) = predictions(capsys, f"run={run}", f"text={long[:32]}")
    assert cut["probabilities"] == read["probabilities"]
    assert len(caplog.messages) == 1
    file.write_text(f"{long}\na river\n{long[:33]}\n", encoding="utf-8")
    predictions(capsys, f"run={run}", f"file={file}")
    assert caplog.messages[1] == "2 of 3 texts have more than 32 tokens, the longest 48: the first 32 of each are read"
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": text, "label": "king"}) + "\n" for text in (long, "a king")))
    gptlab(["evaluate", f"run={run}", "data=jsonl", f"data.path={rows}", "split=all"])
    assert caplog.messages[2] == "1 of 2 texts have more than 32 tokens, the longest 48: the first 32 of each are read"


def test_evaluate_agrees_with_the_summary(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))["test"]
    capsys.readouterr()
    gptlab(["evaluate", f"run={run}", "split=test", "output=json"])
    found = json.loads(capsys.readouterr().out)
    for name, entry in found["metrics"].items():
        assert entry["value"] == pytest.approx(summary[f"test/{name}"], abs=1e-5), name
    rows = (run / "evaluation" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    right = [json.loads(row)["label"] == json.loads(row)["predicted"] for row in rows]
    assert sum(right) / len(right) == pytest.approx(summary["test/accuracy"])


def test_mistakes_are_reported(
    run: Path, tiny_run: TrainedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.csv").write_text("words\nhello\n", encoding="utf-8")
    (tmp_path / "c.txt").write_text("\n \n", encoding="utf-8")
    (tmp_path / "b.txt").write_bytes("é".encode("latin-1"))
    for words, said in (
        (["classify", f"run={run}"], "there is nothing to classify"),
        (["classify", f"run={run}", "text=a", "file=b.txt"], "text= and file= are both given"),
        (["classify", f"run={run}", f"file={tmp_path / 'a.csv'}"], "a.csv, line 2: no field 'text'; there are words"),
        (["classify", f"run={run}", f"file={tmp_path / 'b.txt'}"], "b.txt, line 1: not UTF-8"),
        (["classify", f"run={run}", "text= "], "there is nothing to classify: the text is blank"),
        (["classify", f"run={run}", f"file={tmp_path / 'c.txt'}"], "c.txt holds no text"),
        (["classify", f"run={run}", f"file={tmp_path / 'a.csv'}", "delimiter=ab"], "delimiter is 'ab', wanted comma"),
        (["classify", f"run={run}", "file=/nowhere.txt"], "file: there is no /nowhere.txt"),
        (["classify", f"run={tiny_run.folder}", "text=a"], "the run knows no classes"),
        (["generate", f"run={run}", "prompt=a"], "it is a classifier, of king, river, and generates no text"),
        (["chat", f"run={run}"], "it is a classifier, of king, river"),
        (["evaluate", f"run={run}", "data=text", f"data.path={tiny_run.text}"], "ClassifierHead needs"),
    ):
        with pytest.raises(SystemExit):
            gptlab(words)
        assert said in capsys.readouterr().err
