"""The train/val split of a text."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.data import ByteTokenizer, plain_reader, text_data


def write_documents(folder: Path, texts: Sequence[str]) -> Path:
    folder.mkdir()
    for number, text in enumerate(texts):
        (folder / f"{number:03d}.txt").write_text(text)
    return folder


def held_out(path: Path, cache: Path, **changes: object) -> list[str]:
    """Return the names of the held-out documents."""
    text = text_data(path, cache, **changes).text
    return [name for name, out in zip(text.index.first_names, text.split.held_out, strict=True) if out]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_documents(tmp_path / "texts", [f"{number} " * (20 + number % 7) for number in range(100)])


@pytest.mark.parametrize(("n", "fraction", "train"), [(20479, 0.1, 18431), (1000, 0.25, 750), (3, 0.5, 1)])
def test_the_end_of_a_single_document_is_held_out(tmp_path: Path, n: int, fraction: float, train: int) -> None:
    text = "".join(chr(97 + place % 26) for place in range(n))
    (tmp_path / "a.txt").write_text(text)
    data = text_data(tmp_path / "a.txt", tmp_path / "cache", val_fraction=fraction)
    assert "".join(data.training_text()) == text[:train]


@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.5, 0.9])
def test_documents_are_drawn_until_the_fraction_is_reached(folder: Path, tmp_path: Path, fraction: float) -> None:
    text = text_data(folder, tmp_path / "cache", val_fraction=fraction).text
    n_held_out = text.index.n_characters[text.split.held_out].sum()
    assert abs(n_held_out - fraction * text.index.n_characters.sum()) <= text.index.n_characters.max() / 2


@pytest.mark.parametrize("seed", range(10))
def test_a_large_document_among_small_ones_is_trained_on(tmp_path: Path, seed: int) -> None:
    folder = write_documents(tmp_path / "texts", ["large " * 1000, *(f"small {number}" for number in range(100))])
    assert "000.txt" not in held_out(folder, tmp_path / "cache", split_seed=seed)
    assert len(held_out(folder, tmp_path / "cache", split_seed=seed)) > 80  # a tenth of all characters


def test_the_smaller_of_two_documents_is_held_out(tmp_path: Path) -> None:
    folder = write_documents(tmp_path / "texts", ["the longer one", "the shorter"])
    assert held_out(folder, tmp_path / "cache") == ["001.txt"]


def test_the_draw_depends_on_seed_and_content_only(folder: Path, tmp_path: Path) -> None:
    first = held_out(folder, tmp_path / "cache")
    assert held_out(folder, tmp_path / "other") == first
    assert held_out(folder, tmp_path / "cache", split_seed=1) != first
    for path in folder.iterdir():
        path.rename(path.with_name(f"z{path.name}"))
    assert held_out(folder, tmp_path / "cache") == [f"z{name}" for name in first]


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_neither_split_is_empty(tmp_path: Path, fraction: float) -> None:
    folder = write_documents(tmp_path / "texts", ["one", "another", "a third"])
    assert len(held_out(folder, tmp_path / "cache", val_fraction=fraction)) in (1, 2)


@pytest.mark.parametrize("seed", range(10))
def test_equal_documents_are_in_one_split(tmp_path: Path, seed: int) -> None:
    folder = write_documents(tmp_path / "texts", [f"text {number % 10}" for number in range(40)])
    names = held_out(folder, tmp_path / "cache", split_seed=seed)
    assert len(names) == 4
    assert len({(folder / name).read_text() for name in names}) == 1


def test_documents_held_out_by_name(folder: Path, tmp_path: Path) -> None:
    data = text_data(folder, tmp_path / "cache", val_documents=["007.txt", "003.txt"])
    assert held_out(folder, tmp_path / "cache", val_documents=["007.txt", "003.txt"]) == ["003.txt", "007.txt"]
    training = "".join(data.training_text())
    assert "3 3" not in training.split("2 ")[-1]
    assert len(training) == sum(len((folder / f"{n:03d}.txt").read_text()) for n in range(100) if n not in (3, 7))


def test_a_line_of_a_jsonl_file_held_out_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n{"text": "two"}\n{"text": "three"}\n')
    assert "".join(text_data(path, tmp_path, val_documents=["a.jsonl:2"]).training_text()) == "onethree"


def test_training_text_is_the_training_split_in_chunks(folder: Path, tmp_path: Path) -> None:
    data = text_data(folder, tmp_path / "cache", clean=["trailing_spaces"])
    out = held_out(folder, tmp_path / "cache", clean=["trailing_spaces"])
    texts = [path.read_text().rstrip() for path in sorted(folder.iterdir()) if path.name not in out]
    assert list(data.training_text()) == texts
    assert list(data.training_text()) == texts  # twice, because a tokenizer may need two passes


def test_the_fingerprint_follows_the_training_text(folder: Path, tmp_path: Path) -> None:
    def fingerprint(**changes: object) -> str:
        return text_data(folder, tmp_path / "cache", **changes).training_text().fingerprint

    first = fingerprint()
    assert fingerprint(batch_size=7, stride=3) == first
    assert fingerprint(split_seed=3) != first
    assert fingerprint(val_fraction=0.3) != first
    assert fingerprint(clean=["trailing_spaces"]) != first
    [kept] = [path for path in folder.iterdir() if path.name == "000.txt"]
    kept.write_text("something else")
    assert fingerprint() != first


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"val_fraction": 0.0}, r"data\.val_fraction is 0\.0: it must be more than 0 and less than 1"),
        ({"val_fraction": 1.0}, r"data\.val_fraction is 1\.0: it must be"),
        ({"val_documents": ["007.text"]}, r"there is no document '007\.text' [(]did you mean 007\.txt"),
        ({"val_documents": ["Ruth"]}, r"there is no document 'Ruth': the first are \['000\.txt', '001"),
        ({"val_documents": [f"{n:03d}.txt" for n in range(100)]}, r"holds out all 100 documents"),
    ],
)
def test_impossible_splits_are_reported(
    folder: Path, tmp_path: Path, changes: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        text_data(folder, tmp_path / "cache", **changes).training_text()


def test_a_text_too_short_to_split_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(ValueError, match=r"the text has 1 characters, too few to hold out data\.val_fraction=0\.1"):
        text_data(tmp_path / "a.txt", tmp_path / "cache").training_text()


def test_a_text_of_equal_documents_is_reported(tmp_path: Path) -> None:
    folder = write_documents(tmp_path / "texts", ["same"] * 3)
    with pytest.raises(ValueError, match=r"all 3 documents are equal.*data\.clean=\[duplicates\]"):
        text_data(folder, tmp_path / "cache").training_text()


def test_a_dropped_document_is_in_no_split(tmp_path: Path) -> None:
    folder = write_documents(tmp_path / "texts", ["aaaa", "b", "cccc", "aaaa", "dddd", ""])
    data = text_data(folder, tmp_path / "cache", clean=["duplicates", "min_length=3"], val_documents=["002.txt"])
    assert list(data.training_text()) == ["aaaa", "dddd"]
    corpus = data.prepare(ByteTokenizer(eot=True), context_length=2).corpus
    assert (corpus.train.documents, corpus.train.n_tokens, corpus.val.n_tokens) == (2, 10, 5)


def test_separated_documents_split_like_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one--two--three")
    data = text_data(tmp_path / "a.txt", tmp_path, reader=plain_reader(separator="--"), val_documents=["a.txt:2"])
    assert list(data.training_text()) == ["one", "three"]
