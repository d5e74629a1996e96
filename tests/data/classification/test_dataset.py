"""Labelled texts: split, classes, batches, and messages about wrong files."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from gptlab.data.classification.dataset import LabelledData
from gptlab.data.classification.prepared import PreparedLabelled
from gptlab.data.classification.readers import LabelledReader
from gptlab.data.files.faults import Faults
from gptlab.data.files.paths import collect
from gptlab.tokenizer import gpt2
from tests.support.data import ByteTokenizer

GUESSED = {"columns": None, "delimiter": None, "quoting": None}
BYTES = ByteTokenizer(eot=True)


def reader(**changes: Any) -> LabelledReader:
    """Build the reader of conf/data/reader/labelled.yaml."""
    return LabelledReader(**({"text_field": "text", "label_field": "label", "group_field": None, **GUESSED} | changes))


def labelled(path: Path, tmp_path: Path, **changes: Any) -> LabelledData:
    """Build conf/data/labelled.yaml with these changes."""
    arguments: dict[str, Any] = {
        "path": str(path),
        "sha256": None,
        "reader": reader(),
        "classes": None,
        "test_path": None,
        "val_fraction": 0.1,
        "test_fraction": 0.2,
        "stratify": True,
        "split_seed": 123,
        "val_groups": None,
        "test_groups": None,
        "balance": "none",
        "group_by_length": True,
        "pad_to": None,
        "batch_size": 4,
        "n_workers": 0,
        "on_error": "error",
        "cache_dir": str(tmp_path / "cache"),
        "max_expansion": 100,
    }
    return LabelledData(**(arguments | changes))


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Write 60 rows of three classes, 40, 15 and 5, with texts of 1 to 60 letters."""
    classes = ["a"] * 40 + ["b"] * 15 + ["c"] * 5
    return write(tmp_path / "my.jsonl", [{"text": "x" * (i + 1), "label": label} for i, label in enumerate(classes)])


@pytest.fixture
def prepared(path: Path, tmp_path: Path) -> PreparedLabelled:
    return labelled(path, tmp_path).prepare(BYTES, context_length=64)


def texts(data: LabelledData, split: str) -> list[str]:
    return [example.text for example in getattr(data.splits, split)]


def test_the_books_spam_split(shared_data: Path, tmp_path: Path) -> None:
    """Check the numbers of the book's chapter 6.

    They are 747 rows of each class, 1,045, 149 and 300 rows, and 120 GPT-2 tokens in the longest training text.
    `pd.concat([ham.sample(747, random_state=123), spam]).sample(frac=1, random_state=123)` draws as numpy does;
    numpy's permutation gives the places of the first spam and of a ham.
    """
    file, columns = shared_data / "SMSSpamCollection.tsv", ["label", "text"]
    data = labelled(
        file, tmp_path, reader=reader(columns=columns, quoting=True), balance="undersample", stratify=False, pad_to=120
    )
    prepared = data.prepare(gpt2.load(encoding="gpt2"), context_length=1024)
    assert [len(rows) for rows in prepared.splits.values()] == [1045, 149, 300]
    assert prepared.train.lengths.max() == 120
    assert prepared.train.n_cut == 0
    every = [row for split in data.splits for row in split]
    assert sum(row.label == "spam" for row in every) == 747
    assert prepared.train[np.arange(3)]["ids"].shape == (3, 120)

    lines = file.read_text(encoding="utf-8").replace('""', '"').split("\n")
    spam = [line for line in lines if line.startswith("spam\t")]
    order = np.random.RandomState(123).permutation(1494)  # 747 ham, then the spam in file order
    place = next(i for i, number in enumerate(order) if number == 747)
    assert every[place].text == spam[0].split("\t")[1]
    place = next(i for i, number in enumerate(order) if number == 0)
    assert every[place].label == "ham"


def test_a_seed_fixes_the_split_and_each_row_is_in_it_once(path: Path, tmp_path: Path) -> None:
    def split(seed: int) -> list[list[str]]:
        data = labelled(path, tmp_path, split_seed=seed)
        return [texts(data, name) for name in ("train", "val", "test")]

    first = split(123)
    assert [len(each) for each in first] == [42, 6, 12]
    assert len({text for each in first for text in each}) == 60
    assert split(123) == first
    assert split(1) != first


def test_a_separate_test_file(path: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "test.jsonl", [{"text": "new", "label": "a"}])
    data = labelled(path, tmp_path, test_path=str(other))
    assert (texts(data, "test"), len(texts(data, "train")), len(texts(data, "val"))) == (["new"], 54, 6)


def test_without_a_test_set(path: Path, tmp_path: Path) -> None:
    data = labelled(path, tmp_path, test_fraction=0.0).prepare(BYTES, context_length=64)
    assert (len(data.train), len(data.val), data.test) == (54, 6, None)
    assert data.summary_line() == "training on 54 rows (36 a, 13 b, 5 c), validation on 6"


def test_undersampling_cuts_every_class_to_the_smallest(path: Path, tmp_path: Path) -> None:
    data = labelled(path, tmp_path, balance="undersample")
    labels = [example.label for split in data.splits for example in split]
    assert sorted(labels) == ["a"] * 5 + ["b"] * 5 + ["c"] * 5


def test_an_even_epoch_sees_every_class_equally_often(path: Path, tmp_path: Path) -> None:
    rows = labelled(path, tmp_path, balance="balanced").prepare(BYTES, context_length=64).train
    epochs = [rows.epoch(np.random.default_rng(seed), 4) for seed in (0, 1)]
    for epoch in epochs:
        assert len(epoch) == len(rows) == 42
        assert np.bincount(rows.labels[epoch]).tolist() == [14, 14, 14]
        of_rarest = epoch[rows.labels[epoch] == 2]
        assert set(of_rarest) == set(np.flatnonzero(rows.labels == 2)), "every row of a rare class comes again"
        assert len(set(epoch[rows.labels[epoch] == 0])) == 14, "no row of a large class comes twice"
    assert sorted(epochs[0]) != sorted(epochs[1]), "drawn anew each epoch"
    assert np.array_equal(rows.epoch(np.random.default_rng(0), 4), epochs[0])


@pytest.mark.parametrize("group_by_length", [True, False])
def test_an_epoch_has_every_row_once(path: Path, tmp_path: Path, group_by_length: bool) -> None:
    rows = labelled(path, tmp_path, group_by_length=group_by_length).prepare(BYTES, context_length=64).train
    epoch = rows.epoch(np.random.default_rng(0), 4)
    assert sorted(epoch) == list(range(42))
    spread = np.ptp(rows.lengths[epoch[:40]].reshape(-1, 4), axis=1).mean()
    assert (spread < 8) == group_by_length
    assert sorted(rows.reading_order()) == list(range(42))
    assert (np.argmax(rows.lengths[rows.reading_order()]) == 0) == group_by_length


def test_a_batch_has_ids_lengths_and_labels(prepared: PreparedLabelled) -> None:
    index = np.array([3, 0])
    batch = prepared.train[index]
    wanted = [prepared.examples.train[i] for i in index]
    assert batch["lengths"].tolist() == [len(example.text) for example in wanted]
    assert batch["labels"].tolist() == ["abc".index(example.label) for example in wanted]
    for row, example in zip(batch["ids"].tolist(), wanted, strict=True):
        n = len(example.text)
        assert row == [ord("x")] * n + [256] * (max(batch["lengths"].tolist()) - n)


def test_a_text_begins_with_the_bos_id(path: Path, tmp_path: Path) -> None:
    tokenizer = ByteTokenizer(eot=False)
    tokenizer.bos_id = 7
    batch = labelled(path, tmp_path).prepare(tokenizer, context_length=64).train[np.arange(4)]
    assert batch["ids"][:, 0].tolist() == [7] * 4
    assert batch["ids"].min() == 0, "without an end of text the id 0 pads"


def test_pad_to_gives_rows_of_one_width(path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        data = labelled(path, tmp_path, pad_to=50).prepare(BYTES, context_length=64)
    assert data.train[np.arange(2)]["ids"].shape == (2, 50)
    n_cut = sum(len(example.text) > 50 for example in data.examples.train)
    assert data.train.lengths.max() == 50
    assert f"cut {n_cut} of 42 texts of the train set to 50 tokens, see data.pad_to" in caplog.text
    with pytest.raises(ValueError, match=r"data\.pad_to=65, but .*model\.context_length=64"):
        labelled(path, tmp_path, pad_to=65).prepare(BYTES, context_length=64)


def test_texts_longer_than_the_model_reads_are_cut(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        labelled(path, tmp_path).prepare(BYTES, context_length=59)
    assert "cut 1 of" in caplog.text
    assert "model.context_length" in caplog.text


def test_the_fingerprint_changes_with_rows_order_and_padding(path: Path, tmp_path: Path) -> None:
    def fingerprint(context_length: int = 64, **changes: Any) -> str:
        return labelled(path, tmp_path, **changes).prepare(BYTES, context_length=context_length).fingerprint

    first = fingerprint()
    assert fingerprint(batch_size=7, n_workers=2) == first
    changes: list[dict[str, Any]] = [
        {"context_length": 20},
        {"split_seed": 5},
        {"pad_to": 64},
        {"group_by_length": False},
        {"balance": "balanced"},
        {"balance": "undersample"},
        {"classes": ["c", "b", "a"]},
        {"val_fraction": 0.2},
    ]
    assert len({first, *(fingerprint(**change) for change in changes)}) == 9


def test_classes_in_a_chosen_order(path: Path, tmp_path: Path) -> None:
    data = labelled(path, tmp_path, classes=["c", "a", "b"]).prepare(BYTES, context_length=64)
    assert list(data.labels) == ["c", "a", "b"]
    assert data.labels["a"] == sum(example.label == "a" for example in data.examples.train)


def test_numbers_and_truth_values_are_names(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"text": "x", "label": [3, True, "no"][i % 3]} for i in range(60)])
    assert list(labelled(path, tmp_path).prepare(BYTES, context_length=64).labels) == ["3", "no", "true"]
    ordered = labelled(path, tmp_path, classes=[True, "no", 3])
    assert list(ordered.prepare(BYTES, context_length=64).labels) == ["true", "no", "3"]


def test_the_tokenizer_learns_from_training_texts_alone(path: Path, tmp_path: Path) -> None:
    data = labelled(path, tmp_path)
    assert list(data.training_text()) == texts(data, "train")
    other = labelled(path, tmp_path, split_seed=1).training_text()
    assert data.training_text().fingerprint != other.fingerprint


def test_rows_without_a_text_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "a.jsonl", [{"text": "x" * (i % 5), "label": "ab"[i % 2]} for i in range(50)])
    with caplog.at_level(logging.WARNING):
        data = labelled(path, tmp_path)
        assert sum(map(len, data.splits)) == 40
    assert "left out 10 of 50 rows" in caplog.text


def grouped(tmp_path: Path) -> Path:
    """Write ten groups for each of two classes, ten rows each."""
    rows = [
        {"text": f"{group} {i}", "label": group[0], "by": group}
        for group in (f"{label}{k}" for label in "pq" for k in range(10))
        for i in range(10)
    ]
    return write(tmp_path / "groups.jsonl", rows)


def test_groups_are_not_split_and_every_split_has_all_classes(tmp_path: Path) -> None:
    path, by = grouped(tmp_path), reader(group_field="by")

    def split(seed: int) -> list[set[str | None]]:
        data = labelled(path, tmp_path, reader=by, split_seed=seed)
        return [{example.group for example in split} for split in data.splits]

    train, val, test = split(123)
    assert not train & val | train & test | val & test
    assert [sorted(str(name)[0] for name in split) for split in (val, test)] == [["p", "q"], ["p", "p", "q", "q"]]
    assert split(123) == [train, val, test]
    assert split(1)[2] != test


def test_groups_by_name(tmp_path: Path) -> None:
    path, by = grouped(tmp_path), reader(group_field="by")
    data = labelled(path, tmp_path, reader=by, val_groups=["p0", "q3"], test_groups=["q1"])
    assert [{example.group for example in split} for split in data.splits][1:] == [{"p0", "q3"}, {"q1"}]
    described = data.prepare(BYTES, context_length=64).describe(BYTES, n_examples=1, vectors={})
    assert described["groups"] == {"val": ["p0", "q3"], "test": ["q1"]}
    for changes, sentence in (
        ({"val_groups": ["p77"]}, r"data\.val_groups: the data has no group 'p77' \(did you mean p7"),
        ({"val_groups": ["p0"], "test_groups": ["p0"]}, r"'p0' is in the test set already"),
        (
            {"val_groups": ["p0"], "reader": reader()},
            r"no row has one: give their column with data\.reader\.group_field",
        ),
    ):
        with pytest.raises(ValueError, match=sentence):
            _ = labelled(path, tmp_path, **({"reader": by} | changes)).splits


def test_the_report(tmp_path: Path) -> None:
    rows = [{"text": f"text {i % 25}", "label": "ab"[i % 2]} for i in range(50)]  # each text twice
    data = labelled(write(tmp_path / "a.jsonl", rows), tmp_path).prepare(BYTES, context_length=64)
    described = data.describe(BYTES, n_examples=2, vectors={})
    train, test = described["splits"]["train"], described["splits"]["test"]
    learned = {example.text for example in data.examples.train}
    assert test["also_in_train"] == len({e.text for e in data.examples.test} & learned) > 0
    assert train["classes"] == data.labels
    assert (train["longest"], test["rows"]) == (7, 10)
    assert 0 <= described["padding"]["group_by_length"] <= described["padding"]["by_chance"] < 0.2
    console = Console(width=200)
    with console.capture() as capture:
        console.print(data.render(json.loads(json.dumps(described))))
    assert f"[{described['examples'][0]['label']}] {data.examples.train[0].text}" in capture.get()


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["text,label", "one,a", "two"], r"my\.csv, line 3: 1 columns, wanted 2"),
        (
            ["text,kind", "one,a"],
            r"my\.csv, line 2: no field 'label'; there are text, kind: .*reader\.label_field",
        ),
        (["words,label", "one,a"], r"my\.csv, line 2: no field 'text'; .*data\.reader\.text_field"),
        (["text,label", "one,"], r"my\.csv, line 2: 'label' is empty"),
        (["text,label", *["one,a"] * 20], r"my\.csv has 20 rows, all of class 'a'; wanted two classes or more"),
        (["text,label"], r"my\.csv has no rows; wanted two classes or more"),
        (["text,label,label", "one,a,a"], r"my\.csv has two columns of the name label: rename one"),
        (["text,label", "one,a", "two,b"], r"2 rows are too few: none is left for val"),
    ],
)
def test_a_wrong_table_is_reported(tmp_path: Path, lines: list[str], sentence: str) -> None:
    path = tmp_path / "my.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ValueError, match=sentence):
        _ = labelled(path, tmp_path).splits


def test_malformed_lines_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "my.jsonl"
    path.write_text('{"text": "x", "label": "a"}\n{"text": "y"', encoding="utf-8")
    with pytest.raises(ValueError, match=r"my\.jsonl, line 2: not JSON"):
        _ = labelled(path, tmp_path).splits


def test_an_unknown_test_label_is_reported(path: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "test.jsonl", [{"text": "new", "label": "a"}, {"text": "new", "label": "d"}])
    with pytest.raises(ValueError, match=r"test\.jsonl, line 2: unknown label 'd'; the classes are a, b, c:"):
        labelled(path, tmp_path, test_path=str(other)).prepare(BYTES, context_length=64)


def test_a_chosen_class_without_training_rows_is_reported(path: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"data\.classes names e, which no row .*; those that occur are a, b, c: correct"
    ):
        _ = labelled(path, tmp_path, classes=["a", "b", "c", "e"]).classes
    with pytest.raises(ValueError, match=r"data\.classes names '1' twice"):
        labelled(path, tmp_path, classes=[1, "1.0"])
    with pytest.raises(ValueError, match=r"my\.jsonl, line \d+: unknown label 'c'; the classes are a, b:"):
        labelled(path, tmp_path, classes=["a", "b"]).prepare(BYTES, context_length=64)


def test_a_field_may_exceed_the_csv_default_limit(tmp_path: Path) -> None:
    file = tmp_path / "long.csv"
    file.write_text(f"text,label\n{'x' * 200_000},a\n", encoding="utf-8")
    (example,) = reader().read(
        collect(str(file), endings=(".csv",), sha256=None, cache_dir=tmp_path, max_expansion=100)[0],
        Faults(on_error=None),
    )
    assert len(example.text) == 200_000


def test_texts_shared_by_splits_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"text": f"{i % 2} again", "label": "ab"[i % 2]} for i in range(40)]
    labelled(write(tmp_path / "my.jsonl", rows), tmp_path).prepare(BYTES, context_length=64)
    assert "4 of 4 texts of the val set are in the training set too" in caplog.text
    assert "8 of 8 texts of the test set are in the training set too" in caplog.text


def test_a_missing_test_set_is_reported_with_its_key(path: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"data\.test_path: there is no"):
        _ = labelled(path, tmp_path, test_path=str(tmp_path / "none.csv")).splits


def test_a_class_held_out_by_chance_is_reported(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "label": f"{i % 2}" if i < 20 else "rare"} for i in range(21)]
    path, told = write(tmp_path / "my.jsonl", rows), []
    for seed in range(20):
        data = labelled(path, tmp_path, split_seed=seed, stratify=False)
        if any(example.label == "rare" for example in data.splits.train):
            assert len(data.classes) == 3
        else:
            with pytest.raises(ValueError, match=r"class 'rare' has no training row \(1 held out\)"):
                _ = data.classes
            told.append(seed)
    assert 0 < len(told) < 20


def test_fractions_without_a_training_set_are_reported(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.val_fraction=0\.5 and data\.test_fraction=0\.5 leave nothing"):
        _ = labelled(path, tmp_path, val_fraction=0.5, test_fraction=0.5).splits


def told(tmp_path: Path, rows: list[dict[str, Any]], **changes: Any) -> list[str]:
    """Return the classes of rows that are written to a file."""
    return list(labelled(write(tmp_path / "told.jsonl", rows), tmp_path, **changes).classes)


def test_whole_numbers_are_ordered_as_numbers(tmp_path: Path) -> None:
    rows = [{"text": f"t {i}", "label": i % 12} for i in range(60)]
    assert told(tmp_path, rows) == [str(i) for i in range(12)]
    assert told(tmp_path, [row | {"label": [-1, 10, "b", "a"][i % 4]} for i, row in enumerate(rows)]) == [
        *("-1", "10"),
        *("a", "b"),
    ]


@pytest.mark.parametrize("written", [["False", "1.0"], ["FALSE", "1"], [" false ", "1.00"]])
def test_what_pandas_and_spreadsheets_write_matches_json(tmp_path: Path, written: list[str]) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "".join(f"t {i},{written[i % 2]}\n" for i in range(40)), encoding="utf-8")
    for classes in ([False, 1], ["False", "1.0"], None):
        assert set(labelled(path, tmp_path, classes=classes).classes) == {"false", "1"}
    rows = [{"text": f"t {i}", "label": [False, 1.0][i % 2]} for i in range(40)]
    assert told(tmp_path, rows, classes=[False, 1]) == ["false", "1"]


def test_random_splits_keep_the_shares_of_the_classes(tmp_path: Path) -> None:
    rows = [{"text": f"t {i}", "label": "a" if i < 180 else "b" if i < 200 else "c"} for i in range(201)]
    path = write(tmp_path / "a.jsonl", rows)
    for seed in range(10):
        splits = labelled(path, tmp_path, split_seed=seed).splits
        assert sum(example.label == "c" for example in splits.train) == 1, "a class of one row is trained on"
        for rows_of, share in zip(splits, (0.7, 0.1, 0.2), strict=True):
            assert abs(sum(example.label == "b" for example in rows_of) - 20 * share) <= 1
    assert labelled(path, tmp_path, split_seed=1).splits != labelled(path, tmp_path, split_seed=2).splits
    spread = {
        sum(example.label == "b" for example in labelled(path, tmp_path, split_seed=seed, stratify=False).splits.val)
        for seed in range(10)
    }
    assert len(spread) > 2, "without it, shares differ"


def test_labels_that_contradict_or_resemble_each_other_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"text": f"t {i % 30}", "label": ["Spam", "ham"][i % 2] if i < 30 else "spam"} for i in range(60)]
    assert told(tmp_path, rows) == ["Spam", "ham", "spam"]
    assert "the classes Spam, spam differ in case or blanks only" in caplog.text
    assert "30 of 30 different texts have more than one label, such as 't 0': Spam, spam" in caplog.text


def test_malformed_records_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows: list[dict[str, Any]] = [{"text": f"t {i}", "label": "ab"[i % 2]} for i in range(40)]
    wrong = [{"text": "x"}, {"text": "x", "label": None}, {"text": "x", "label": 1.5}, {"text": 3, "label": "a"}]
    path = write(tmp_path / "a.jsonl", [*wrong, *rows])
    assert sum(map(len, labelled(path, tmp_path, on_error="skip").splits)) == 40
    assert "left out 4 of 44 records that are malformed" in caplog.text
    with pytest.raises(ValueError, match=r"line 1: no field 'label'.*data\.on_error=skip"):
        _ = labelled(path, tmp_path).splits
    for row, value in ((wrong[1], "null"), (wrong[2], "1.5")):
        with pytest.raises(ValueError, match=f"'label' is {value}, wanted a text, a whole number, true or false"):
            _ = labelled(write(tmp_path / "a.jsonl", [row, *rows]), tmp_path).splits
