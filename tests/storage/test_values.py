"""A record is a tree of plain values, of bounded size."""

from typing import Any

import pytest
import torch

from gptlab.storage.values import MAX_DEPTH, check_plain


def test_plain_values_pass() -> None:
    check_plain({"a": [1, 2.5, True, None, "x", (1, 2), {"b": {}}], "c": float("nan")})
    check_plain({"vocabulary": {str(i): i for i in range(30_000)}})


def deep(n: int) -> Any:
    value: Any = 1
    for _ in range(n):
        value = [value]
    return value


def laughs() -> Any:
    """Ten nested lists, each with a thousand references to the next."""
    value: Any = ["ha"]
    for _ in range(10):
        value = [value] * 1000
    return value


def circle() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (deep(MAX_DEPTH + 1), "nested more than 64 deep"),
        (deep(100_000), "nested more than 64 deep"),
        (laughs(), "more than 1,000,000 values"),
        (circle(), "nested more than 64 deep"),
        ({1: 2}, "a key that is not a string"),
        ({"a": torch.zeros(1)}, "it holds a Tensor, which is not a plain value"),
        ({"a": {1, 2}}, "it holds a set"),
        ({"a": b"x"}, "it holds a bytes"),
    ],
    ids=["too deep", "far too deep", "billion laughs", "circle", "key", "tensor", "set", "bytes"],
)
def test_other_values_are_refused(value: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        check_plain(value)
