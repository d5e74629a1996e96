"""Schedules: pure functions of the step."""

import math
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from gptlab.config.signature import public_classes
from gptlab.errors import UserError
from gptlab.training.schedules import (
    UNUSABLE,
    TorchSchedule,
    constant,
    cosine,
    n_shared_steps,
    scheduler_after,
    wsd,
)


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


OPTIONS: dict[str, dict[str, Any]] = {
    "ConstantLR": {"total_iters": 4},
    "CosineAnnealingLR": {"eta_min": 0.01},
    "CosineAnnealingWarmRestarts": {"T_0": 3, "T_mult": 2, "eta_min": 0.001},
    "CyclicLR": {"base_lr": 0.01, "max_lr": [0.1, 0.2], "step_size_up": 3},
    "ExponentialLR": {"gamma": 0.9},
    "LinearLR": {"start_factor": 0.1, "total_iters": 7},
    "MultiStepLR": {"milestones": [2, 4, 7], "gamma": 0.3},
    "OneCycleLR": {"max_lr": 0.3},
    "PolynomialLR": {"power": 2.0},
    "StepLR": {"step_size": 2},
}


def sgd() -> torch.optim.Optimizer:
    """Return an optimizer of two groups with rates of their own, which has taken a step."""
    groups = [{"params": [nn.Parameter(torch.zeros(2))], "lr": rate} for rate in (0.1, 0.02)]
    return torch.optim.SGD(groups, lr=0.1, momentum=0.8)


def settings(schedule: Any, n_steps: int, *, start: int = 0) -> list[list[dict[str, Any]]]:
    """Return the groups' settings at each step, from `start` on, where the optimizer is a new one."""
    optimizer = sgd()
    scheduler = scheduler_after(schedule, optimizer, start)
    found = []
    for _ in range(start, n_steps):
        found.append([{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return found


def test_every_scheduler_of_torch_resumes_to_the_bit() -> None:
    assert set(OPTIONS) == set(public_classes("torch.optim.lr_scheduler", "LRScheduler")) - set(UNUSABLE)
    for name, options in OPTIONS.items():
        schedule = TorchSchedule(total_steps=10, name=name, **options)
        straight = settings(schedule, 10)
        assert settings(schedule, 10, start=6) == straight[6:], name
        assert straight[0] != straight[5], name  # it does something


def test_a_scheduler_steps_as_in_a_loop_by_hand() -> None:
    optimizer = sgd()
    scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=4, eta_min=0.001)
    rates = []
    for _ in range(9):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    schedule = TorchSchedule(total_steps=9, name="CosineAnnealingWarmRestarts", T_0=4, eta_min=0.001)
    assert [[group["lr"] for group in groups] for groups in settings(schedule, 9)] == rates


def test_an_extended_run_takes_the_longer_schedule() -> None:
    short, long = (TorchSchedule(total_steps=n, name="CosineAnnealingLR") for n in (10, 20))
    assert settings(short, 11, start=10)[0][0]["lr"] == pytest.approx(0)
    assert settings(long, 20, start=10) == settings(long, 20)[10:]
    assert settings(long, 20, start=10)[0][0]["lr"] == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"name": "LambdaLR"}, "schedule.name is 'LambdaLR': it needs a function"),
        ({"name": "Counter"}, "schedule.name is 'Counter': torch.optim.lr_scheduler has no such scheduler"),
    ],
)
def test_what_a_run_cannot_use_is_a_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        TorchSchedule(total_steps=10, **options)


def test_what_torch_refuses_is_a_sentence() -> None:
    with pytest.raises(UserError, match=r"schedule\.name=MultiStepLR: PyTorch refuses its values"):
        TorchSchedule(total_steps=10, name="MultiStepLR", milestones=3).scheduler(sgd())


@pytest.mark.parametrize(
    ("schedule", "shared"),
    [
        (partial(constant, warmup_steps=2, start_factor=0.0), 40),
        (partial(wsd, warmup_steps=2, start_factor=0.0, decay_fraction=0.25, end_factor=0.0), 31),
        (partial(wsd, warmup_steps=2, start_factor=0.0, decay_fraction=1.0, end_factor=0.0), 2),
        (partial(cosine, warmup_steps=2, start_factor=0.0, end_factor=0.0), 3),
        (partial(TorchSchedule, name="OneCycleLR", max_lr=0.1), 0),
    ],
)
def test_the_steps_that_a_longer_run_takes_too(schedule: Any, shared: int) -> None:
    assert n_shared_steps(schedule, 40) == shared
    if shared:
        assert [schedule(step, total_steps=40) for step in range(shared)] == [
            schedule(step, total_steps=400) for step in range(shared)
        ]
