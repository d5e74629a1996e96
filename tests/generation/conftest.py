"""The generation room's fixtures."""

from collections.abc import Callable

import pytest
import torch

from gptlab.generation.sampling import Sampling

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
def make_sampling() -> Callable[..., Sampling]:
    """`make_sampling(temperature=0.8, ...)`: greedy but for the changes."""
    return lambda **changes: Sampling(**{**GREEDY, **changes})


@pytest.fixture
def seeded() -> Callable[[int], torch.Generator]:
    """`seeded(3)`: a fresh source of chance."""
    return torch.Generator().manual_seed
