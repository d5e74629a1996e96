"""Rows from memory are read as a file's are."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gptlab.data.files.memory import find_rows, store_rows
from gptlab.errors import UserError
from gptlab.run import Run
from tests.conftest import TINY

TURNS = [{"role": "user", "content": "who?"}, {"role": "assistant", "content": "you"}]
ROWS = [{"text": "one", "label": 1}, {"text": "two", "label": 0}]


def stored(rows: Any) -> list[Any]:
    path = find_rows(store_rows(rows, text_field="text"), key="data.path", endings=(".jsonl",))
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    ("rows", "values"),
    [
        (["one\u2028two", "\U0001f600"], [{"text": "one\u2028two"}, {"text": "\U0001f600"}]),
        ((text for text in ("a", "b")), [{"text": "a"}, {"text": "b"}]),
        (ROWS, ROWS),
        ([TURNS], [{"messages": TURNS}]),
        ([[{"from": "human", "value": "a"}]], [{"conversations": [{"from": "human", "value": "a"}]}]),
        ([{"label": np.int64(3), "x": np.array([1.5, np.nan]), 5: None}], [{"label": 3, "x": [1.5, None], "5": None}]),
    ],
)
def test_rows_of_every_kind_are_stored(rows: Any, values: list[Any]) -> None:
    assert stored(rows) == values


class Table:
    """The part of a DataFrame that is used."""

    columns = ("text", "label")

    def itertuples(self, *, index: bool, name: None) -> Iterator[tuple[Any, ...]]:
        return iter([("one", 1), (float("nan"), np.bool_(True))])


def test_a_table_is_read_by_its_columns() -> None:
    assert stored(Table()) == [{"text": "one", "label": 1}, {"text": None, "label": True}]


@pytest.mark.slow
def test_tables_of_pandas_and_datasets_are_read() -> None:
    pandas, datasets = pytest.importorskip("pandas"), pytest.importorskip("datasets")
    frame = pandas.DataFrame(
        {"text": ["one", None], "label": ["a", "b"], "day": pandas.to_datetime(["2026-01-01", None])}
    )
    assert stored(frame) == [
        {"text": "one", "label": "a", "day": "2026-01-01T00:00:00"},
        {"text": None, "label": "b", "day": None},
    ]
    assert stored(frame.label) == [{"text": "a"}, {"text": "b"}]
    assert stored(datasets.Dataset.from_list(ROWS)) == ROWS
    with pytest.raises(UserError, match=r"DatasetDict of train, wanted rows: .* such as data\['train'\]"):
        stored(datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)}))
    with pytest.raises(UserError, match="more than one column text"):
        stored(pandas.DataFrame([["a", "b"]], columns=["text", "text"]))


def test_the_same_rows_have_one_address_and_are_not_written_again() -> None:
    address = store_rows(ROWS, text_field="text")
    before = find_rows(address, key="data.path", endings=(".jsonl",)).stat().st_mtime_ns
    assert store_rows(iter(ROWS), text_field="text") == address
    assert find_rows(address, key="data.path", endings=(".jsonl",)).stat().st_mtime_ns == before
    assert store_rows(ROWS[1:], text_field="text") != address


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("my.txt", r"give \[text\], or the path of a file with data\.path="),
        (Path("my.txt"), "data.path="),
        ([], "data has no rows"),
        (3, "data is 3, wanted rows"),
        (["a", 5], "row 1 is 5, wanted a text"),
        (["a", []], r"row 1 is \[\], wanted a text"),
        ({"train": ROWS}, r"such as data\['train'\]"),
        ([{"text": object()}], "row 0: 'text' is a object"),
        ([{"text": float("inf")}], "row 0: 'text' is inf"),
    ],
)
def test_what_are_no_rows_is_refused(rows: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        store_rows(rows, text_field="text")


@pytest.mark.parametrize(
    ("overrides", "rows", "message"),
    [
        (["data=csv", "head=classifier"], [*ROWS, {"text": "x"}], r"row 2: no field 'label'"),
        (["data=chat", "head=instruction"], [TURNS, TURNS[:1], TURNS], "row 1: "),
        (["data=text"], ["fine", {"text": 5}], "row 1: field 'text' holds int"),
        ([], [TURNS], "no field 'text'; there are messages: .*, or say with data=csv, chat or preferences what"),
        (["data=kjv"], ["a"], "rows from memory are not read by this data's reader"),
        (["data.path=my.txt"], ["a"], "both name the data"),
        (["data=text", "data.path=memory://../../key.jsonl"], None, "is not the address of rows from memory"),
    ],
)
def test_faults_of_rows_are_sentences_that_name_the_row(overrides: list[str], rows: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Run.compose([*TINY, *overrides], data=rows)
