"""Fixtures of the generation tests."""

from collections.abc import Callable

import pytest
import torch

from gptlab.generation.sampling import Sampling

MakeSampling = Callable[..., Sampling]
Seeded = Callable[[int], torch.Generator]

GREEDY = {
    "max_new_tokens": 40,
    "temperature": 0.0,
    "top_k": None,
    "top_p": 1.0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "stop": [],
}


@pytest.fixture
def make_sampling() -> MakeSampling:
    """Build a greedy sampling with changes: `make_sampling(temperature=0.8, ...)`."""
    return lambda **changes: Sampling(**{**GREEDY, **changes})


@pytest.fixture
def seeded() -> Seeded:
    """Build a random generator: `seeded(3)`."""
    return torch.Generator().manual_seed
