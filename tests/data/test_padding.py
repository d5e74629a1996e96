"""Rows are selected as from a list."""

from typing import Any

import numpy as np
import pytest
import torch

from gptlab.data.chat.packing import PackedRows, PaddedRows, as_row
from gptlab.data.chat.prepared_preferences import PairRows
from gptlab.data.classification.rows import LabelledRows
from gptlab.data.padding import row_numbers

TEN = [as_row([i, *range(1, 3 + i % 3)], [True] * (3 + i % 3)) for i in range(10)]
SHAPE: dict[str, Any] = {"fill": 0, "max_tokens": 9, "pad_to": None, "group_by_length": True, "even": False}
LABELLED = LabelledRows([np.array([i, 1, 2]) for i in range(10)], np.arange(10), **SHAPE)


@pytest.mark.parametrize(
    ("index", "numbers"),
    [
        ([0, 1], [0, 1]),
        (np.array([3, 3]), [3, 3]),
        (torch.tensor([2]), [2]),
        (7, [7]),
        (-1, [9]),
        ([-10, 9], [0, 9]),
        (slice(2, 4), [2, 3]),
        (slice(None, None, -5), [9, 4]),
    ],
)
def test_a_list_a_number_and_a_slice_select_rows(index: Any, numbers: list[int]) -> None:
    assert row_numbers(index, 10).tolist() == numbers
    for rows in (
        PaddedRows(TEN, group_by_length=False),
        PairRows(TEN, TEN, group_by_length=False),
        LABELLED,
        PackedRows(TEN, context_length=5),
    ):
        if len(rows) == 10:
            assert torch.equal(rows[index]["ids"], rows[np.array(numbers)]["ids"])


@pytest.mark.parametrize("index", [10, -11, [0, 10]])
def test_a_row_that_is_not_there_is_an_index_error(index: Any) -> None:
    with pytest.raises(IndexError, match="there are 10 rows"):
        row_numbers(index, 10)
    assert len(list(LABELLED)) == 10  # so a loop over rows ends


@pytest.mark.parametrize("index", [1.5, [True, False], "a", [[0, 1]]])
def test_what_is_no_row_number_is_a_type_error(index: Any) -> None:
    with pytest.raises(TypeError, match="selected by a number"):
        row_numbers(index, 10)
