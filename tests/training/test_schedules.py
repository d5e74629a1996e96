"""Schedules: pure functions of the step."""

import math
from itertools import pairwise

import pytest

from gptlab.training.schedules import constant, cosine, wsd


def test_cosine_warms_up_falls_and_stays() -> None:
    rates = [cosine(step, total_steps=100, warmup_steps=10, start_factor=0.1, end_factor=0.2) for step in range(120)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[5] == pytest.approx(0.55)
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.6)  # half way down, half way between 1 and end
    assert rates[32] == pytest.approx(0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi * 22 / 90)))
    assert rates[100:] == [pytest.approx(0.2)] * 20
    assert rates[10:101] == sorted(rates[10:101], reverse=True)


def test_constant_is_constant_after_its_warm_up() -> None:
    assert [constant(step, total_steps=9, warmup_steps=2, start_factor=0.0) for step in range(4)] == [
        0.0,
        0.5,
        1.0,
        1.0,
    ]
    assert constant(0, total_steps=9, warmup_steps=0, start_factor=0.0) == 1.0


def test_a_warm_up_as_long_as_the_run() -> None:
    assert cosine(10, total_steps=10, warmup_steps=10, start_factor=0.0, end_factor=0.0) == 1.0


def test_wsd_is_a_trapezoid() -> None:
    rates = [
        wsd(step, total_steps=100, warmup_steps=10, start_factor=0.1, decay_fraction=0.4, end_factor=0.2)
        for step in range(120)
    ]
    assert rates[:10] == pytest.approx([0.1 + 0.09 * step for step in range(10)])
    assert rates[10:61] == [1.0] * 51
    assert rates[61] == pytest.approx(1 - 0.8 / 40)
    assert rates[80] == pytest.approx(0.6)
    assert rates[99] == pytest.approx(0.2 + 0.8 / 40)
    assert rates[100:] == [pytest.approx(0.2)] * 20


def test_wsd_before_its_decay_is_independent_of_the_runs_length() -> None:
    short, long = (
        [
            wsd(step, total_steps=n, warmup_steps=5, start_factor=0.0, decay_fraction=0.5, end_factor=0.0)
            for step in range(20)
        ]
        for n in (40, 400)
    )
    assert short == long


@pytest.mark.parametrize("warmup_steps", [7, 10, 1000])
def test_wsd_with_a_warm_up_into_the_decay_has_no_jump(warmup_steps: int) -> None:
    rates = [
        wsd(step, total_steps=10, warmup_steps=warmup_steps, start_factor=0.1, decay_fraction=0.5, end_factor=0.0)
        for step in range(11)
    ]
    assert all(0 < rate <= 1 for rate in rates[:10])
    assert rates[10] == 0.0
    assert max(abs(b - a) for a, b in pairwise(rates)) <= 0.2 + 1e-12  # the slope of the decay


def test_wsd_without_a_decay_is_constant() -> None:
    rates = [
        wsd(step, total_steps=9, warmup_steps=0, start_factor=0.0, decay_fraction=0.0, end_factor=0.0)
        for step in range(9)
    ]
    assert rates == [1.0] * 9
