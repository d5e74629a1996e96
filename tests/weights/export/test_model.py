"""An export that cannot be written is reported in one sentence and leaves no files."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gptlab.heads.lm import LMHead
from gptlab.heads.protocol import HeadContext
from gptlab.tokenizer.char import CharTokenizer
from gptlab.weights.export.card import write_card
from gptlab.weights.export.model import export
from tests.support.tiny_models import tiny_gpt

CARD: dict[str, Any] = {
    "name": "tiny",
    "parameters": 1,
    "prompt": "a",
    "command": None,
    "config": None,
    "summary": {},
}
TOKENIZER = CharTokenizer(characters="".join(map(chr, range(64, 114))), unknown=False, end_of_text=False)


def export_to(folder: Path) -> None:
    model = tiny_gpt(vocab_size=TOKENIZER.vocab_size)
    head = LMHead(model, HeadContext(model.vocab_size, None), tied=True, loss_chunk_rows=None)
    export(model, head, TOKENIZER, folder, shard_bytes=10**9, card=CARD)


def refused(folder: Path, error: type[Exception]) -> str:
    with pytest.raises(error) as raised:
        export_to(folder)
    return str(raised.value)


@contextmanager
def files_of_at_most(n_bytes: int) -> Iterator[None]:
    """Limit the size of files, as on a full disk; briefly, because other code writes files too."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("n_bytes", [1000, 20_000], ids=["before the weights", "in the weights"])
def test_a_full_disk(tmp_path: Path, n_bytes: int) -> None:
    (tmp_path / "mine").mkdir()
    for folder in (tmp_path / "mine", tmp_path / "new" / "deep"):
        with files_of_at_most(n_bytes):
            message = refused(folder, OSError)
        assert message.startswith(f"{folder}: the model cannot be written (File too large; it takes 0.1 MB, and ")
        assert message.endswith(" MB are free): make room, or choose another folder")
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    assert refused(file, ValueError) == f"to={file} is a file: give a new folder"
    assert refused(file / "x", OSError).startswith(f"{file / 'x'}: the model cannot be written (Not a directory; ")
    assert refused(tmp_path, ValueError) == f"to={tmp_path} is not empty: give a new folder"
    assert file.read_text() == "mine"


def test_a_card_hides_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    values = {"command": "train.py data.path=/home/ada/my.txt", "config": "data:\n  path: /home/adam/his.txt"}
    write_card(tmp_path, reader="AutoTokenizer", **CARD | values)
    card = (tmp_path / "README.md").read_text()
    assert "data.path=~/my.txt" in card
    assert "path: /home/adam/his.txt" in card


def test_a_card_names_the_tested_weights(tmp_path: Path) -> None:
    summary = {"val": {"val/loss": 2.0}, "best": {"val/loss": 1.0}, "test": {"test/loss": 1.5}}
    cases = [(summary["best"], "best", "| final | best | test, best |"), ({}, "final", "| final | test, final |")]
    cases.append(
        ({}, "best", "| final | test, best |")
    )  # it resumed without the callback, but had kept a best checkpoint
    for best, tested, header in cases:
        values = {"summary": summary | {"best": best, "test_of": tested}}
        write_card(tmp_path, reader="AutoTokenizer", **CARD | values)
        assert header in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(("best", "header"), [({"val/loss": 1.0}, "test, best |"), ({}, "test, final |")])
def test_a_summary_without_test_of_is_read(tmp_path: Path, best: dict[str, float], header: str) -> None:
    summary = {"val": {"val/loss": 2.0}, "best": best, "test": {"test/loss": 1.5}}
    write_card(tmp_path, reader="AutoTokenizer", **CARD | {"summary": summary})
    assert header in (tmp_path / "README.md").read_text()
