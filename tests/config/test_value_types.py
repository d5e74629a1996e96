"""Types and bounds of plain values."""

from types import NoneType
from typing import Annotated, Any, Literal

import pytest

from gptlab.bounds import AtLeast, AtMost, Length, LessThan, MoreThan
from gptlab.config.check import check
from gptlab.config.compose import compose_config
from gptlab.config.schema import SCHEMAS, bounded_root_types, root_types
from gptlab.config.signature import arguments
from gptlab.config.value_types import Bounded, fits, type_name, wanted

FRACTION = Bounded(float, (AtLeast(0), LessThan(1)))
BETAS = Bounded(list[(FRACTION,)], (Length(2, 2),))  # type: ignore[misc]  # as signature.py reads it
COUNT = Bounded(int, (AtLeast(1),))


def test_values_of_each_type_fit() -> None:
    assert fits(3, float)
    assert not fits(10**400, float)
    assert not fits(True, float)
    assert not fits(True, int)
    assert fits(None, (int, type(None)))
    assert not fits("a", list[str])
    assert fits(["a"], list[str])
    assert not fits([1], list[str])
    assert fits("b", Literal["a", "b"])
    assert fits(0, COUNT)  # a type, whatever its bounds
    assert fits([7.0], BETAS)


@pytest.mark.parametrize(
    ("value", "kind", "sentence"),
    [
        (1, COUNT, None),
        (0, COUNT, "at least 1"),
        ("a", COUNT, "a whole number"),
        (True, COUNT, "a whole number"),
        (None, (COUNT, NoneType), None),
        (0, (COUNT, NoneType), "at least 1"),
        ("auto", (COUNT, Literal["auto"]), None),
        (0, (COUNT, Literal["auto"]), "at least 1 or auto"),
        (1, FRACTION, "at least 0 and less than 1"),
        (float("nan"), FRACTION, "at least 0 and less than 1"),
        (0.5, Bounded(float, (MoreThan(0.5), AtMost(2))), "more than 0.5 and at most 2"),
        ([0.9, 0.95], BETAS, None),
        ([0.9], BETAS, "a list of 2, each item at least 0 and less than 1"),
        ([0.9, 1.0], BETAS, "a list of 2, each item at least 0 and less than 1"),
        (["a", "b"], BETAS, "a list, each item a number"),
        ([0.9, 1.0], list[(FRACTION,)], "a list, each item at least 0 and less than 1"),  # type: ignore[misc]
        ([], (Literal["all"], Bounded(list[str], (Length(1, None),))), "all or a list of at least 1"),
        ("no", (Literal["auto"], bool), "auto, true or false"),
        (
            0,
            (COUNT, Literal["auto"], Bounded(list[int], (Length(1, None),))),
            "at least 1, auto or a list of at least 1",
        ),
    ],
)
def test_the_message_names_type_or_bounds(value: Any, kind: Any, sentence: str | None) -> None:
    assert wanted(value, kind) == sentence


Share = Annotated[float, AtLeast(0), LessThan(1)]


MOST = 10


class Mine:
    """A user's own head, whose arguments have bounds."""

    def __init__(
        self,
        model: object,
        *,
        n: Annotated[int, AtLeast(1)],
        share: Share,
        rate: Annotated[float, MoreThan(0), AtMost(most=1)] | None,
        betas: Annotated[list[Annotated[float, LessThan(1)]], Length(2, 2)],
        few: Annotated[int, AtMost(MOST)],
        other: Annotated[int, "a note", AtLeast(len("not a literal"))],
        inner: object,
    ) -> None: ...


def test_bounds_are_read_from_the_source() -> None:
    read = arguments("tests.config.test_value_types.Mine")
    assert read is not None
    assert read["n"].type == COUNT
    assert read["share"].type == FRACTION
    assert read["rate"].type == (Bounded(float, (MoreThan(0), AtMost(1))), NoneType)
    assert read["betas"].type == Bounded(list[(Bounded(float, (LessThan(1),)),)], (Length(2, 2),))  # type: ignore[misc]
    assert read["few"].type == Bounded(int, (AtMost(10),))
    assert read["other"].type == Bounded(int, ())  # neither a literal nor a constant


def test_the_bounds_of_a_users_own_part_hold_at_any_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTLAB_TRUST", "tests")
    cfg = compose_config("train", [])
    values = {"n": 1, "share": 0.5, "rate": None, "betas": [0.5, 0.5], "few": 1, "other": 1, "inner": 1}
    node = {"_target_": "tests.config.test_value_types.Mine", "_partial_": True, **values}
    assert not check(cfg | {"head": node})
    wrong = node | {"n": 0, "share": 1, "rate": 2, "betas": [0.5]}
    sentences = [
        "n is 0: it must be at least 1",
        "share is 1: it must be at least 0 and less than 1",
        "rate is 2: it must be more than 0 and at most 1",
        "betas is [0.5]: it must be a list of 2, each item less than 1",
    ]
    assert check(cfg | {"head": wrong}) == [f"head.{sentence}" for sentence in sentences]
    assert check(cfg | {"head": node | {"inner": wrong}}) == [f"head.inner.{sentence}" for sentence in sentences]


def test_a_root_key_has_the_same_bounds_in_every_schema() -> None:
    bounded = bounded_root_types()
    assert {"seed", "n_samples", "batch_tokens", "split", "output", "shard_gb"} <= set(bounded)
    for schema in SCHEMAS:
        for key, kind in root_types(schema).items():
            assert key not in bounded or kind == bounded[key], f"{schema.__name__}.{key}"


def test_type_names() -> None:
    assert type_name((COUNT, NoneType)) == "a whole number or null"
    assert type_name((str, list[str], NoneType)) == "text, a list, each item text or null"
