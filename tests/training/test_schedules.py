"""Schedules: pure functions of the step."""

import math

import pytest

from gptlab.training.schedules import constant, cosine


def test_cosine_warms_up_falls_and_stays() -> None:
    rates = [cosine(step, total_steps=100, warmup_steps=10, start=0.1, end=0.2) for step in range(120)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[5] == pytest.approx(0.55)
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.6)  # half way down, half way between 1 and end
    assert rates[32] == pytest.approx(0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi * 22 / 90)))
    assert rates[100:] == [pytest.approx(0.2)] * 20
    assert rates[10:101] == sorted(rates[10:101], reverse=True)


def test_constant_is_constant_after_its_warm_up() -> None:
    assert [constant(step, total_steps=9, warmup_steps=2, start=0.0) for step in range(4)] == [0.0, 0.5, 1.0, 1.0]
    assert constant(0, total_steps=9, warmup_steps=0, start=0.0) == 1.0


def test_a_warm_up_as_long_as_the_run() -> None:
    assert cosine(10, total_steps=10, warmup_steps=10, start=0.0, end=0.0) == 1.0
