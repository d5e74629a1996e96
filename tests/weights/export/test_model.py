"""A folder that an export cannot fill: a sentence, and nothing of the export is left."""

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
    with pytest.raises(error) as told:
        export_to(folder)
    return str(told.value)


@contextmanager
def files_of_at_most(n_bytes: int) -> Iterator[None]:
    """The system lets no file grow further, as a full disk does; for a moment only, since others write files too."""
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
            said = refused(folder, OSError)
        assert said.startswith(f"{folder}: the model cannot be written (File too large; it takes 0.1 MB, and ")
        assert said.endswith(" MB are free): make room, or choose another folder")
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    assert refused(file, ValueError) == f"to={file} is a file: give a new folder"
    assert refused(file / "x", OSError).startswith(f"{file / 'x'}: the model cannot be written (Not a directory; ")
    assert refused(tmp_path, ValueError) == f"to={tmp_path} is not empty: give a new folder"
    assert file.read_text() == "mine"


def test_a_card_does_not_tell_where_home_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    told = {"command": "train.py data.path=/home/ada/my.txt", "config": "data:\n  path: /home/adam/his.txt"}
    write_card(tmp_path, reader="AutoTokenizer", **CARD | told)
    card = (tmp_path / "README.md").read_text()
    assert "data.path=~/my.txt" in card
    assert "path: /home/adam/his.txt" in card


def test_a_card_says_which_weights_were_tested(tmp_path: Path) -> None:
    summary = {"val": {"val/loss": 2.0}, "best": {"val/loss": 1.0}, "test": {"test/loss": 1.5}}
    cases = [(summary["best"], "best", "| final | best | test, best |"), ({}, "final", "| final | test, final |")]
    cases.append(({}, "best", "| final | test, best |"))  # it went on without looking for the best, and had one
    for best, tested, header in cases:
        told = {"summary": summary | {"best": best, "test_of": tested}}
        write_card(tmp_path, reader="AutoTokenizer", **CARD | told)
        assert header in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(("best", "header"), [({"val/loss": 1.0}, "test, best |"), ({}, "test, final |")])
def test_a_run_of_before_did_not_say_which(tmp_path: Path, best: dict[str, float], header: str) -> None:
    summary = {"val": {"val/loss": 2.0}, "best": best, "test": {"test/loss": 1.5}}
    write_card(tmp_path, reader="AutoTokenizer", **CARD | {"summary": summary})
    assert header in (tmp_path / "README.md").read_text()
