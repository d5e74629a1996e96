"""Each filter equals its formula, written out number by number."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor

from gptlab.errors import UserError
from gptlab.generation.sampling import filter_min_p, filter_top_k, filter_top_p, next_ids, nth_seed, penalise, warp
from tests.generation.conftest import MakeSampling, Seeded

CONF = Path(__file__).parents[2] / "conf"
NONE_SEEN = torch.zeros(1, 0, dtype=torch.int64)


@pytest.fixture
def logits() -> Tensor:
    """Return logits whose last row is flat and the one before certain.   -> (6, 16)"""
    logits = 2 * torch.randn(6, 16, generator=torch.Generator().manual_seed(0))
    logits[4] = torch.tensor([0.0] * 15 + [90.0])
    logits[5] = 0.0
    return logits


def softmax(row: list[float]) -> list[float]:
    powers = [math.exp(x - max(row)) for x in row]
    return [power / sum(powers) for power in powers]


def kept(logits: Tensor) -> list[set[int]]:
    """Return the tokens that a filter left in each row."""
    return [{i for i, x in enumerate(row) if x > -math.inf} for row in logits.tolist()]


def only(logits: Tensor, sets: list[set[int]]) -> Tensor:
    """Set the logits of tokens outside each row's set to -inf."""
    rows = zip(logits.tolist(), sets, strict=True)
    return torch.tensor([[x if i in keep else -math.inf for i, x in enumerate(row)] for row, keep in rows])


@pytest.mark.parametrize("k", [1, 2, 5, 16, 100])
def test_top_k_keeps_the_k_best(logits: Tensor, k: int) -> None:
    wanted = [{i for i, x in enumerate(row) if x >= sorted(row)[-min(k, 16)]} for row in logits.tolist()]
    assert torch.equal(filter_top_k(logits, k), only(logits, wanted))
    assert [len(keep) for keep in wanted[:4]] == [min(k, 16)] * 4


@pytest.mark.parametrize("p", [1e-6, 0.3, 0.5, 0.7, 0.95])
def test_top_p_keeps_the_smallest_set_that_reaches_p(logits: Tensor, p: float) -> None:
    wanted = []
    for row in logits[:5].tolist():
        probs, keep = softmax(row), set()
        for i in sorted(range(16), key=lambda i: -probs[i]):
            if sum(probs[j] for j in keep) < p:
                keep.add(i)
        wanted.append(keep)
    assert torch.equal(filter_top_p(logits[:5], p), only(logits[:5], wanted))
    assert len(kept(filter_top_p(logits[5:], p))[0]) == math.ceil(p * 16)  # which ones of the equals is left open


@pytest.mark.parametrize("p", [0.01, 0.3, 0.999])
def test_min_p_keeps_tokens_near_the_best(logits: Tensor, p: float) -> None:
    wanted = [{i for i, x in enumerate(probs) if x >= p * max(probs)} for probs in map(softmax, logits.tolist())]
    assert torch.equal(filter_min_p(logits, p), only(logits, wanted))


@pytest.mark.parametrize(
    "changes", [{"top_k": 1}, {"top_p": 1e-9}, {"min_p": 0.9999}, {"top_k": 1, "top_p": 1e-9, "min_p": 0.9999}], ids=str
)
def test_the_best_token_always_stays(make_sampling: MakeSampling, logits: Tensor, changes: dict[str, Any]) -> None:
    sampling = make_sampling(temperature=0.7, **changes)
    assert torch.equal(next_ids(logits[:5], NONE_SEEN.expand(5, 0), sampling, None), logits[:5].argmax(dim=-1))


@pytest.mark.parametrize("penalty", [0.5, 1.7])
def test_the_penalty_falls_once_on_every_token_seen(logits: Tensor, penalty: float) -> None:
    seen = torch.tensor([[3, 3, 0, 11]]).expand(6, -1)
    wanted = logits.tolist()
    for row in wanted:
        for i in (0, 3, 11):
            row[i] = row[i] / penalty if row[i] > 0 else row[i] * penalty
    torch.testing.assert_close(penalise(logits, seen, penalty), torch.tensor(wanted))


def test_the_penalty_holds_for_greedy_too(make_sampling: MakeSampling) -> None:
    logits, seen = torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[0]])
    assert next_ids(logits, seen, make_sampling(), None).tolist() == [0]
    assert next_ids(logits, seen, make_sampling(repetition_penalty=2.0), None).tolist() == [1]


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 1.0},
        {"temperature": 0.5, "top_k": 7},
        {"temperature": 1.5, "top_p": 0.8},
        {"temperature": 2.0, "top_k": 9, "top_p": 0.9, "min_p": 0.1},
        {"temperature": 0.7, "top_k": 3, "top_p": 0.5, "min_p": 0.4},
    ],
    ids=str,
)
def test_the_order_is_that_of_transformers(
    make_sampling: MakeSampling, logits: Tensor, changes: dict[str, Any]
) -> None:
    processors = pytest.importorskip("transformers.generation.logits_process", reason="needs the dev extra")
    makers = {
        "temperature": processors.TemperatureLogitsWarper,
        "top_k": processors.TopKLogitsWarper,
        "top_p": processors.TopPLogitsWarper,
        "min_p": processors.MinPLogitsWarper,
    }
    theirs = logits[:5]
    for name, maker in makers.items():
        if name in changes:
            theirs = maker(changes[name])(None, theirs)
    torch.testing.assert_close(warp(logits[:5], make_sampling(**changes)), theirs)


def test_tokens_are_drawn_as_often_as_they_are_probable(make_sampling: MakeSampling, seeded: Seeded) -> None:
    row = torch.tensor([2.0, 1.0, 0.0, -1.0, 1.5])
    n = 20_000
    sampling = make_sampling(temperature=1.3, top_k=4)
    drawn = next_ids(row.expand(n, -1), torch.empty(n, 0, dtype=torch.int64), sampling, seeded(0))
    wanted = softmax([2.0 / 1.3, 1.0 / 1.3, 0.0, -math.inf, 1.5 / 1.3])
    frequencies = torch.bincount(drawn, minlength=5) / n
    torch.testing.assert_close(frequencies, torch.tensor(wanted), rtol=0, atol=4 * 0.5 / math.sqrt(n))
    assert frequencies[3] == 0


@pytest.mark.parametrize("changes", [{}, {"top_k": 3}, {"top_p": 0.9}, {"min_p": 0.1}], ids=str)
def test_non_finite_logits_are_reported(make_sampling: MakeSampling, logits: Tensor, changes: dict[str, Any]) -> None:
    logits[2, 5] = math.nan
    for temperature in (0.0, 0.7):
        with pytest.raises(UserError, match=r"no numbers \(its logits are not finite\): take an earlier checkpoint"):
            next_ids(logits, NONE_SEEN.expand(6, 0), make_sampling(temperature=temperature, **changes), None)


def test_a_temperature_that_overflows_is_not_taken_for_a_diverged_model(
    make_sampling: MakeSampling, logits: Tensor
) -> None:
    with pytest.raises(UserError, match=r"sampling\.temperature is 1e-40, and dividing by it overflows"):
        next_ids(logits, NONE_SEEN.expand(6, 0), make_sampling(temperature=1e-40), None)


def test_the_seeds_of_a_series_are_those_of_no_other_series() -> None:
    seeds = [nth_seed(seed, number) for seed in range(20) for number in range(20)]
    assert len(set(seeds)) == 400
    assert nth_seed(5, 0) == 5


def test_coarse_logits_are_drawn_from_in_full_precision(make_sampling: MakeSampling, seeded: Seeded) -> None:
    logits = torch.randn(300, 1000, generator=seeded(0)).bfloat16()
    sampling, seen = make_sampling(temperature=0.9, top_p=0.9), torch.empty(300, 0, dtype=torch.int64)
    drawn, wanted = (next_ids(each, seen, sampling, seeded(1)) for each in (logits, logits.float()))
    assert torch.equal(drawn, wanted)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_new_tokens", 0),
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_k", 0),
        ("top_p", 0.0),
        ("top_p", 1.01),
        ("min_p", -0.1),
        ("min_p", 1.0),
        ("repetition_penalty", 0.0),
        ("stop", "."),
        ("stop", [".", ""]),
    ],
)
def test_values_out_of_range_are_refused(make_sampling: MakeSampling, name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"sampling\.{name} is .*, wanted "):
        make_sampling(**{name: value})


@pytest.mark.parametrize("name", [path.stem for path in (CONF / "sampling").glob("*.yaml")])
def test_every_sampling_yaml_builds(name: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        sampling = instantiate(compose(overrides=[f"+sampling={name}"]).sampling)
    assert (sampling.temperature == 0) == (name == "greedy")
